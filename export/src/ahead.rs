//! Constants' values, computed ahead of whoever writes them: reading and rounding them takes longer
//! than writing. Order and bytes are those of one thread.

use std::{ops::ControlFlow, sync::mpsc, thread};

use crate::{error::Result, graph::Initializer};

/// How many compute. Each holds up to three constants: one being taken, one waiting, one in the
/// making.
const THREADS: usize = 2;

/// Hands the values of each constant to `take` with its place among them, in order, until it breaks;
/// the first error ends it.
///
/// # Errors
///
/// If values cannot be read; what `take` fails with.
pub(crate) fn each_with_values(
    constants: &[&Initializer],
    mut take: impl FnMut(usize, Vec<u8>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    thread::scope(|scope| {
        // They go when this scope's function returns, so that who sends ends before it is joined.
        let lanes: Vec<_> = (0..THREADS)
            .map(|lane| {
                let (sender, receiver) = mpsc::sync_channel(1);
                scope.spawn(move || {
                    let own = constants.iter().skip(lane).step_by(THREADS);
                    let _ = own
                        .map(|constant| constant.values())
                        .try_for_each(|values| sender.send(values));
                });
                receiver
            })
            .collect();
        for place in 0..constants.len() {
            let received = lanes[place % THREADS].recv();
            let Ok(values) = received else { break }; // it panicked, which the scope hands on
            if take(place, values?)?.is_break() {
                break;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::Dtype;

    use super::*;
    use crate::{
        error::{Error, ErrorKind},
        graph::{Data, Recipe},
    };

    fn constants(count: u8, bad: Option<u8>) -> Vec<Initializer> {
        let constant = |at| {
            let recipe = Recipe::new(move || {
                if bad == Some(at) {
                    return Err(Error::new(ErrorKind::BadCheckpoint, "there", "bad"));
                }
                Ok(vec![at])
            });
            Initializer {
                name: at.to_string(),
                shape: vec![1],
                data: Data::Recipe(Dtype::U8, recipe),
            }
        };
        (0..count).map(constant).collect()
    }

    /// The values taken, of so many at most.
    fn taken(constants: &[Initializer], most: usize) -> (Vec<u8>, Result<()>) {
        let mut taken = Vec::new();
        let all: Vec<_> = constants.iter().collect();
        let result = each_with_values(&all, |place, values| {
            assert_eq!(values, [place as u8]);
            taken.extend(values);
            let is_enough = taken.len() == most;
            Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        (taken, result)
    }

    #[test]
    fn values_come_in_order_up_to_the_first_error() {
        for count in 0..8 {
            let (found, result) = taken(&constants(count, None), usize::MAX);
            assert_eq!(found, (0..count).collect::<Vec<_>>());
            result.expect("no error");
        }
        for bad in 0..5 {
            let (found, result) = taken(&constants(5, Some(bad)), usize::MAX);
            assert_eq!(found, (0..bad).collect::<Vec<_>>());
            assert_eq!(result.expect_err("one is bad").kind(), ErrorKind::BadCheckpoint);
        }
        let (found, result) = taken(&constants(200, None), 3);
        assert_eq!(found, [0, 1, 2]);
        result.expect("no error");
    }
}
