use std::fs;

use super::*;

#[test]
fn pages_that_left_are_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("step.data");
    let values: Vec<u8> = (0..300_000_u32).flat_map(|value| (value as f32).to_le_bytes()).collect();
    fs::write(&path, &values).expect("written");
    crate::Runtime::for_tests();
    let weights = MappedWeights::open(&path).expect("mapped");
    assert_eq!(weights.bytes(), values.len());
    let constant = Constant {
        name: "w".to_owned(),
        element: 1,
        shape: vec![3, 5],
        offset: 4 * 200_000,
        bytes: 4 * 15,
    };
    #[expect(unsafe_code, reason = "the mapping is dropped after the value")]
    // SAFETY: the mapping is dropped after the value.
    let value = unsafe { weights.value(&constant) }.expect("a value");
    for _ in 0..3 {
        let (shape, found) = value.try_extract_tensor::<f32>().expect("floats");
        assert_eq!(&shape[..], [3, 5]);
        let expected: Vec<f32> = (200_000..200_015_u32).map(|value| value as f32).collect();
        assert_eq!(found, expected);
        weights.leave().expect("they may");
    }
}

#[test]
fn files_in_memory_are_counted() {
    let mut resident = weights::resident_reader().expect("the system tells");
    let found = resident().expect("a number");
    // The program itself is one of them, and all its memory is less than this.
    assert!((1..1 << 40).contains(&found), "{found}");
}

#[test]
fn what_cannot_be_mapped_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty");
    fs::write(&empty, "").expect("written");
    for path in [empty, folder.path().join("none")] {
        assert!(MappedWeights::open(&path).is_err(), "{}", path.display());
    }
}
