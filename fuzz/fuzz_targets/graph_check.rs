//! A graph of a package, before ONNX Runtime sees it: no bytes may make the check panic, and its
//! answer follows from where the constants are, not from what lies around them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketmuse_fuzz::{parts, within};
use pocketmuse_package::graph::{Weights, Writer, check};

/// The memory that a check may take, whatever a graph claims.
const MOST_BYTES: usize = 4 << 20;

fuzz_target!(|bytes: &[u8]| {
    let [graph, name, size] = parts(bytes);
    let name = std::str::from_utf8(name).unwrap_or_default();
    let bytes = size.first_chunk().map_or(0, |size| u64::from_le_bytes(*size));
    within(MOST_BYTES + 4 * graph.len(), || {
        let accepts = |graph: &[u8], name, bytes, writer| {
            check(graph, Some(Weights { name, bytes }), writer).is_ok()
        };
        let alone = check(graph, None, Writer::Exporter).is_ok();
        let with = accepts(graph, name, bytes, Writer::Exporter);
        assert!(with || !alone, "weights that are there are no fault");
        if !with {
            return;
        }
        assert!(accepts(graph, name, bytes, Writer::OnnxRuntime), "it may more");
        assert!(accepts(graph, name, u64::MAX, Writer::Exporter), "more weights are no fault");
        let other = accepts(graph, &format!("{name}-"), bytes, Writer::Exporter);
        assert_eq!(other, alone, "weights of another name are none");
    });
});
