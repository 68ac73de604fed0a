//! What names servers in the calls that take some, and reading it.

use crate::error::{Error, ErrorKind, Result};
use crate::server_url::ServerUrl;

/// Anything that names servers: a text (also a comma-separated list), or several.
///
/// Sealed: it is implemented for `&str`, `String`, `&String`, and for slices, arrays and vectors of
/// texts.
pub trait ServerList: sealed::Sealed {
    #[doc(hidden)]
    fn texts(&self) -> Vec<String>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! server_list {
    ($([$($generics:tt)*] $type:ty, $self:ident => $texts:expr;)+) => {
        $(impl<$($generics)*> sealed::Sealed for $type {}
        impl<$($generics)*> ServerList for $type {
            fn texts(&$self) -> Vec<String> {
                $texts
            }
        })+
    };
}

server_list! {
    [] &str, self => vec![(*self).to_owned()];
    [] String, self => vec![self.clone()];
    [] &String, self => vec![(*self).clone()];
    [T: AsRef<str>] &[T], self => self.iter().map(|text| text.as_ref().to_owned()).collect();
    [T: AsRef<str>] Vec<T>, self => self.iter().map(|text| text.as_ref().to_owned()).collect();
    [T: AsRef<str>] &Vec<T>, self => self.iter().map(|text| text.as_ref().to_owned()).collect();
    [T: AsRef<str>, const N: usize] [T; N], self =>
        self.iter().map(|text| text.as_ref().to_owned()).collect();
    [T: AsRef<str>, const N: usize] &[T; N], self =>
        self.iter().map(|text| text.as_ref().to_owned()).collect();
}

/// Reads all texts before anything is done with one; a list that names no server is refused.
pub(crate) fn read(texts: &[String]) -> Result<Vec<ServerUrl>> {
    let mut urls = Vec::new();
    for text in texts {
        urls.extend(ServerUrl::parse_list(text)?);
    }
    if urls.is_empty() {
        return Err(Error::new(ErrorKind::InvalidUrl, "the list of servers is empty"));
    }
    Ok(urls)
}
