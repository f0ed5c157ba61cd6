//! Archives that are altered, cut or unreadable at any byte.

use std::io::{self, Cursor};

use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use super::*;

/// Fails at a byte.
struct Failing<'a> {
    bytes: &'a [u8],
    left: usize,
    kind: io::ErrorKind,
}

impl Read for Failing<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::new(self.kind, "the line is dead"));
        }
        let most = self.left.min(into.len());
        let count = self.bytes.read(&mut into[..most])?;
        self.left -= count;
        Ok(count)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_altered_archive_is_refused_or_the_same(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        near in any::<bool>(),
    ) {
        let mut bytes = archive(&manifest(&[Flavour::F32]));
        let most = if near { 30_000 } else { bytes.len() }; // manifest and headers, or all
        for (at, byte) in changes {
            bytes[at.index(most)] = byte;
        }
        let (root, target) = place();
        match import_bytes(&bytes, &target) {
            Ok(found) => {
                // The text of a name may change, and what a tar header says of owners.
                prop_assert_eq!(tree(&target).len(), found.files().count() + 1);
                for file in found.files() {
                    prop_assert!(file.check(&target).is_ok());
                }
                prop_assert_eq!(names(root.path()), ["package"]);
            }
            Err(_) => {
                prop_assert!(!target.exists());
                discard(&target).expect("discarded");
                prop_assert!(names(root.path()).is_empty());
            }
        }
    }

    #[test]
    fn a_cut_archive_is_refused(at in any::<proptest::sample::Index>(), seeks: bool) {
        let bytes = archive(&manifest(&[Flavour::F32]));
        let cut = &bytes[..at.index(bytes.len() - 1024 - 512)]; // without the end and some bytes
        let (_root, target) = place();
        let result = if seeks {
            import_seekable(Cursor::new(cut), &Subset::default(), &target, GO_ON)
        } else {
            import_bytes(cut, &target)
        };
        prop_assert_eq!(result.expect_err("cut").kind(), ErrorKind::PackageDamaged);
        prop_assert!(!target.exists());
    }

    #[test]
    fn what_the_reader_says_is_passed_on(at in any::<proptest::sample::Index>(), other: bool) {
        let bytes = archive(&manifest(&[Flavour::F32]));
        let left = at.index(bytes.len() - 1024);
        let kind = if other { io::ErrorKind::Other } else { io::ErrorKind::TimedOut };
        let (_root, target) = place();
        let reader = Failing { bytes: &bytes, left, kind };
        let error = import(reader, &Subset::default(), &target, GO_ON).expect_err("failed");
        prop_assert_eq!(error.kind(), ErrorKind::Io, "{}", error);
        prop_assert!(error.to_string().ends_with("the line is dead"), "{}", error);
        prop_assert!(!target.exists());
        import_bytes(&bytes, &target).expect("goes on");
    }
}
