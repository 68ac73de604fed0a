//! G1: anything may be called from anywhere, in every state.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `methods` | every public method as a call; compared with the sources |
//! | `places` | where a program's code runs, and how it gets there; the states |
//! | `stage` | one connection with a place, a state, and calls made there |
//! | `run` | all of them, several at once, and the figure |

mod methods;
mod places;
mod run;
mod stage;

pub(crate) use run::all_cells;
use stage::Quiet;
