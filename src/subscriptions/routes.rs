//! From sid to what is kept for it, in pages.
//!
//! This client gives sids out in order, so those in use lie near each other: few pages hold them
//! all, which are found in a small map, and mostly without it: what follows is mostly of the same
//! page. Only sids that this client has given out get in, so a server that sends others neither
//! makes anything grow nor chooses a key. Whoever owns a table calls it, one thread at a time.
//!
//! Invariants: each page in the map has a route, and each place in `pages` that no number leads to
//! is in `free`, without a page.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

const PAGE: usize = 64;

/// So many places without a page are left as they are.
const FREE: usize = 16;

/// A table by sid.
#[derive(Debug)]
pub(crate) struct Routes<T> {
    numbers: HashMap<u64, usize, BuildHasherDefault<PageHasher>>,
    pages: Vec<Option<Page<T>>>,
    free: Vec<usize>,
    /// The number and place of the page that was found last; it may have gone since, and then its
    /// place holds another, whose number differs.
    last: Cell<(u64, usize)>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    number: u64,
    places: Box<[Option<T>; PAGE]>,
    used: usize,
}

/// Spreads the numbers of pages.
#[derive(Debug, Default)]
struct PageHasher(u64);

impl Hasher for PageHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // An odd factor near the golden ratio of 2^64; its high bits go where tables look first.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn page_of(sid: u64) -> u64 {
    sid / PAGE as u64
}

fn place_of(sid: u64) -> usize {
    // Less than PAGE, whatever the size of an address is.
    (sid % PAGE as u64) as usize
}

impl<T> Routes<T> {
    pub(crate) fn new() -> Self {
        Self {
            numbers: HashMap::default(),
            pages: Vec::new(),
            free: Vec::new(),
            last: Cell::new((0, 0)),
            len: 0,
        }
    }

    /// Where the page with that number is.
    #[inline(always)]
    fn index(&self, number: u64) -> Option<usize> {
        let (last, index) = self.last.get();
        let place = self.pages.get(index);
        if last == number && matches!(place, Some(Some(page)) if page.number == number) {
            return Some(index);
        }
        self.search(number)
    }

    #[inline(never)]
    fn search(&self, number: u64) -> Option<usize> {
        let index = *self.numbers.get(&number)?;
        self.last.set((number, index));
        Some(index)
    }

    #[inline(always)]
    pub(crate) fn find(&self, sid: u64) -> Option<&T> {
        let page = self.pages.get(self.index(page_of(sid))?)?.as_ref()?;
        page.places.get(place_of(sid))?.as_ref()
    }

    pub(crate) fn insert(&mut self, sid: u64, value: T) {
        let number = page_of(sid);
        let index = self.index(number).unwrap_or_else(|| self.add_page(number));
        let Some(Some(page)) = self.pages.get_mut(index) else { return };
        if let Some(place) = page.places.get_mut(place_of(sid)) {
            let new = usize::from(place.is_none());
            page.used += new;
            self.len += new;
            *place = Some(value);
        }
    }

    fn add_page(&mut self, number: u64) -> usize {
        let page = Page { number, places: Box::new([const { None }; PAGE]), used: 0 };
        let index = self.free.pop().unwrap_or(self.pages.len());
        match self.pages.get_mut(index) {
            Some(place) => *place = Some(page),
            None => self.pages.push(Some(page)),
        }
        self.numbers.insert(number, index);
        index
    }

    pub(crate) fn remove(&mut self, sid: u64) -> Option<T> {
        let number = page_of(sid);
        let index = self.index(number)?;
        let place = self.pages.get_mut(index)?;
        let page = place.as_mut()?;
        let value = page.places.get_mut(place_of(sid))?.take()?;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            *place = None;
            self.numbers.remove(&number);
            self.free.push(index);
            if self.len == 0 {
                *self = Self::new();
            } else if self.free.len() > FREE && self.free.len() > self.numbers.len() * 3 {
                self.shrink();
            }
        }
        Some(value)
    }

    /// Gives back the memory of a peak: three pages have left for each that is moved here.
    #[cold]
    fn shrink(&mut self) {
        self.free = Vec::new();
        self.pages = std::mem::take(&mut self.pages).into_iter().filter(Option::is_some).collect();
        self.pages.shrink_to_fit();
        let numbers = self.pages.iter().flatten().map(|page| page.number);
        self.numbers = numbers.zip(0..).collect();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All of them, in no order.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.pages.iter().flatten().flat_map(|page| {
            let sids = page.number * PAGE as u64..;
            sids.zip(page.places.iter()).filter_map(|(sid, place)| Some((sid, place.as_ref()?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_holds_what_a_map_holds_and_nothing_when_that_is_empty() {
        let (mut routes, mut map) = (Routes::new(), BTreeMap::new());
        let mut draw = 1u64;
        for round in 0..50_000u64 {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let sid = (draw >> 33) % 500 + 1;
            if (draw >> 20) % 5 < 2 {
                routes.insert(sid, round);
                map.insert(sid, round);
            } else {
                assert_eq!(routes.remove(sid), map.remove(&sid));
            }
            let other = (draw >> 45) % 600;
            assert_eq!(routes.find(other), map.get(&other));
            assert_eq!(routes.len(), map.len());
            if round % 100 == 0 {
                let all: BTreeMap<_, _> = routes.iter().map(|(sid, value)| (sid, *value)).collect();
                assert_eq!(all, map);
            }
        }
        for sid in map.keys() {
            assert!(routes.remove(*sid).is_some());
        }
        assert!(routes.pages.capacity() == 0 && routes.numbers.capacity() == 0);
    }

    #[test]
    fn a_foreign_sid_finds_nothing_and_what_has_left_gives_its_memory_back() {
        let mut routes = Routes::new();
        for sid in [0, 1, u64::MAX] {
            assert_eq!(routes.find(sid), None);
            assert_eq!(routes.remove(sid), None);
        }
        // One stays for ever, many come and go.
        routes.insert(1, ());
        for sid in 2..100_000 {
            routes.insert(sid, ());
            assert!(sid <= 6 || routes.remove(sid - 5).is_some());
            assert!(routes.find(u64::MAX).is_none() && routes.find(1).is_some());
            assert!(routes.pages.len() <= 3 && routes.numbers.capacity() <= 16, "{sid}");
        }
    }

    #[test]
    fn those_that_stay_are_found_when_the_memory_of_a_peak_is_given_back() {
        let mut routes = Routes::new();
        (1..=100_000).for_each(|sid| routes.insert(sid, sid));
        // One of every ten thousand stays.
        for sid in (1..=100_000).filter(|sid| sid % 10_000 != 0) {
            assert_eq!(routes.remove(sid), Some(sid));
            assert!(routes.pages.len() <= 4 * routes.numbers.len() + FREE, "{sid}");
        }
        let kept: BTreeMap<_, _> = routes.iter().map(|(sid, value)| (sid, *value)).collect();
        assert_eq!(kept.len(), 10);
        assert!(kept.iter().all(|(sid, value)| sid == value && routes.find(*sid) == Some(sid)));
        assert!(routes.pages.capacity() <= 64 && routes.free.capacity() <= 64);
        assert!(routes.numbers.capacity() <= 128, "{}", routes.numbers.capacity());
        (1..=100_000).for_each(|sid| routes.insert(sid, sid));
        assert!((1..=100_000).all(|sid| routes.find(sid) == Some(&sid)));
    }
}
