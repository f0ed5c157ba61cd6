use proptest::prelude::*;

use super::*;
use crate::{
    Digest, FileEntry,
    onnx::{data_location, tensor},
    wire::Message,
};

const WEIGHTS: Weights<'_> = Weights { name: "step.data", bytes: 4096 };

/// A message with one field after another.
fn message(fill: impl FnOnce(&mut Message)) -> Message {
    let mut message = Message::default();
    fill(&mut message);
    message
}

/// f32 [2, 3] whose entries say where its 24 bytes are.
fn constant(entries: &[(&str, &str)]) -> Message {
    message(|tensor| {
        tensor.number(tensor::DIMS, 2).number(tensor::DIMS, 3).number(tensor::DATA_TYPE, 1);
        tensor.text(tensor::NAME, "weight");
        for (key, value) in entries {
            let entry = message(|entry| {
                entry.text(onnx::entry::KEY, key).text(onnx::entry::VALUE, value);
            });
            tensor.message(tensor::EXTERNAL_DATA, &entry);
        }
        tensor.number(tensor::DATA_LOCATION, data_location::EXTERNAL);
    })
}

fn at(location: &str) -> Message {
    constant(&[("location", location), ("offset", "64"), ("length", "24")])
}

fn model_of(graph: &Message) -> Message {
    message(|model| {
        model.number(model::IR_VERSION, 10).message(model::GRAPH, graph);
    })
}

fn field(number: u64, inner: &Message) -> Message {
    message(|outer| {
        outer.message(number, inner);
    })
}

fn node(domain: &str) -> Message {
    message(|node| {
        node.text(node::OP_TYPE, "Run").text(node::DOMAIN, domain);
    })
}

/// Where a constant or an operator may stand in a model.
#[derive(Clone, Copy, Debug)]
enum Place {
    Graph,
    /// In the body of a `Scan`, so many times.
    Body(usize),
    /// In one of several graphs of an attribute.
    Branches,
    Function,
    FunctionBody,
    Training,
}

const PLACES: [Place; 8] = [
    Place::Graph,
    Place::Body(1),
    Place::Body(2),
    Place::Body(MAX_DEPTH - 1),
    Place::Branches,
    Place::Function,
    Place::FunctionBody,
    Place::Training,
];

impl Place {
    /// A model with `graph`'s content in this place; a function has only its nodes.
    fn model(self, number: u64, inner: &Message) -> Vec<u8> {
        let graph = field(number, inner);
        let nested = |by: u64, graph: &Message| {
            field(graph::NODE, &field(node::ATTRIBUTE, &field(by, graph)))
        };
        let model = match self {
            Self::Graph => model_of(&graph),
            Self::Body(times) => {
                model_of(&(0..times).fold(graph, |graph, _| nested(attribute::G, &graph)))
            }
            Self::Branches => model_of(&nested(attribute::GRAPHS, &graph)),
            Self::Function if number == graph::NODE => {
                field(model::FUNCTION, &field(function::NODE, inner))
            }
            Self::Function | Self::FunctionBody => {
                let node = field(node::ATTRIBUTE, &field(attribute::G, &graph));
                field(model::FUNCTION, &field(function::NODE, &node))
            }
            Self::Training => field(model::TRAINING, &field(training::ALGORITHM, &graph)),
        };
        model.into_bytes()
    }
}

fn refused(model: &[u8], expected: &str) {
    let error = check(model, Some(WEIGHTS), Writer::Exporter).expect_err(expected);
    assert_eq!(error.kind(), ErrorKind::PackageDamaged);
    assert!(error.to_string().contains(expected), "expected {expected:?}, found {error}");
}

#[test]
fn constants_lie_in_the_file_that_the_manifest_lists_wherever_they_stand() {
    let others = [
        "../step.data",
        "../../secret",
        "/etc/passwd",
        "./step.data",
        "sub/../step.data",
        "step.data/",
        "Step.data",
        "decoder.data",
        "link-to-elsewhere",
        "C:\\secret",
        "..\\secret",
        "",
        "*/_ORT_MEM_ADDR_/*",
        "step.data\0",
    ];
    for place in PLACES {
        let good = place.model(graph::INITIALIZER, &at("step.data"));
        check(&good, Some(WEIGHTS), Writer::Exporter).unwrap_or_else(|error| panic!("{error}"));
        for other in others {
            let expected = "constant \"weight\": expected its values in \"step.data\", which the \
                            manifest lists, found ";
            let expected = format!("{expected}{other:?}");
            refused(&place.model(graph::INITIALIZER, &at(other)), &expected);
        }
    }
    let error =
        check(&Place::Graph.model(graph::INITIALIZER, &at("step.data")), None, Writer::Exporter);
    let error = error.expect_err("no file").to_string();
    assert_eq!(error, "constant \"weight\": expected no file of values, found \"step.data\"");
}

#[test]
fn a_constant_says_where_it_is_and_lies_within_the_file() {
    let cases: [(&[(&str, &str)], &str); 12] = [
        (&[], "expected the name of the file of its values, found none"),
        (&[("offset", "0")], "expected the name of the file of its values, found none"),
        (&[("location", "step.data"), ("location", "x")], "found \"x\""),
        (&[("location", "x"), ("location", "step.data")], "found \"x\""),
        (&[("location", "step.data"), ("offset", "4073")], "24 bytes within the 4096"),
        (&[("location", "step.data"), ("offset", "18446744073709551615")], "found them at 184467"),
        (&[("location", "step.data"), ("offset", "-1")], "a number of bytes as \"offset\""),
        (&[("location", "step.data"), ("offset", "+1")], "found \"+1\""),
        (&[("location", "step.data"), ("offset", "0x10")], "found \"0x10\""),
        (&[("location", "step.data"), ("length", "23")], "24 bytes, as its shape says, found 23"),
        (&[("location", "step.data"), ("basepath", "..")], "and length, found \"basepath\""),
        (&[("location", "step.data"), ("prepacked_0", "x|0|9")], "found \"prepacked_0\""),
    ];
    for (entries, expected) in cases {
        refused(&Place::Graph.model(graph::INITIALIZER, &constant(entries)), expected);
    }
    let good: [&[(&str, &str)]; 3] = [
        &[("location", "step.data")],
        &[("location", "step.data"), ("offset", "4072"), ("length", "0")],
        &[("location", "step.data"), ("offset", "4072"), ("length", "24"), ("checksum", "x")],
    ];
    for entries in good {
        let model = Place::Graph.model(graph::INITIALIZER, &constant(entries));
        check(&model, Some(WEIGHTS), Writer::Exporter).unwrap_or_else(|error| panic!("{error}"));
    }
    // An extent of -1, one of texts, and one of a type of later days.
    for (dims, element) in [([u64::MAX; 2], 1), ([1, 1], 8), ([1, 1], 99)] {
        let tensor = message(|tensor| {
            tensor.number(tensor::DIMS, dims[0]).number(tensor::DIMS, dims[1]);
            tensor.number(tensor::DATA_TYPE, element);
            let entry = message(|entry| {
                entry.text(onnx::entry::KEY, "location").text(onnx::entry::VALUE, "step.data");
            });
            tensor.message(tensor::EXTERNAL_DATA, &entry);
        });
        refused(&Place::Graph.model(graph::INITIALIZER, &tensor), "expected a size, found");
    }
}

#[test]
fn only_initializers_lie_outside() {
    let expected = "constant \"weight\": expected its values inside the graph";
    let tensor = at("step.data");
    // Without a file's name, which could come in another piece.
    for tensor in [tensor.clone(), constant(&[]), constant(&[("offset", "0")])] {
        for by in [attribute::T, attribute::TENSORS] {
            let constant = field(node::ATTRIBUTE, &field(by, &tensor));
            refused(&Place::Graph.model(graph::NODE, &constant), expected);
            refused(&Place::Function.model(graph::NODE, &constant), expected);
            let default = field(function::ATTRIBUTE, &field(by, &tensor));
            refused(&field(model::FUNCTION, &default).into_bytes(), expected);
        }
        for part in [sparse::VALUES, sparse::INDICES] {
            let sparse = field(part, &tensor);
            refused(&Place::Graph.model(graph::SPARSE_INITIALIZER, &sparse), expected);
            for by in [attribute::SPARSE_TENSOR, attribute::SPARSE_TENSORS] {
                let constant = field(node::ATTRIBUTE, &field(by, &sparse));
                refused(&Place::Body(1).model(graph::NODE, &constant), expected);
            }
        }
    }
}

#[test]
fn operators_are_of_domains_that_a_package_can_have() {
    for place in PLACES {
        for domain in ["", "ai.onnx", "com.microsoft"] {
            let model = place.model(graph::NODE, &node(domain));
            check(&model, Some(WEIGHTS), Writer::Exporter)
                .unwrap_or_else(|error| panic!("{error}"));
        }
        for domain in [
            "com.example",
            "ai.onnx.contrib",
            "ai.onnx.ml",
            "com.microsoft.experimental",
            "AI.onnx",
        ] {
            let expected = format!(
                "operator \"Run\": expected one of the domains ai.onnx, com.microsoft, found \
                 {domain:?}"
            );
            refused(&place.model(graph::NODE, &node(domain)), &expected);
        }
        let layout = place.model(graph::NODE, &node("com.microsoft.nchwc"));
        refused(&layout, "found \"com.microsoft.nchwc\"");
        check(&layout, None, Writer::OnnxRuntime).unwrap_or_else(|error| panic!("{error}"));
    }
    // A second domain in one operator: readers take the last.
    let twice = message(|node| {
        node.text(node::DOMAIN, "com.example").text(node::DOMAIN, "");
    });
    refused(&Place::Graph.model(graph::NODE, &twice), "com.example");
}

#[test]
fn what_other_readers_would_see_otherwise_is_no_graph() {
    let evil = field(graph::INITIALIZER, &at("../secret")).into_bytes();
    let deep = Place::Body(MAX_DEPTH).model(graph::INITIALIZER, &at("step.data"));
    refused(&deep, "expected at most 16 graphs inside each other");
    let not_a_graph = "expected an ONNX graph, found something else";
    // The key of the graph with a bit more than 32; a group; an end in the middle.
    let key = (1u64 << 32) | (model::GRAPH << 3) | 2;
    let key: Vec<_> =
        (0..5).map(|at| (key >> (7 * at)) as u8 & 0x7f | u8::from(at < 4) << 7).collect();
    let wide = [&key[..], &[u8::try_from(evil.len()).expect("short")], &evil].concat();
    for bytes in [&wide[..], &[0x3b, 0x3c], &deep[..deep.len() - 1], b"PK\x03\x04", b"{}"] {
        refused(bytes, not_a_graph);
    }
}

#[test]
fn the_stage_says_which_file_it_is() {
    let root = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(root.path().join("f32")).expect("made");
    let entry = |graph: &[u8], path: &str, weights: Option<&str>| {
        std::fs::write(root.path().join(path), graph).expect("written");
        StageEntry {
            graph: FileEntry::describe(root.path(), path).expect("described"),
            weights: weights.map(|path| FileEntry {
                path: path.to_owned(),
                bytes: 4096,
                sha256: Digest::of(b""),
            }),
            held: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            taps: Default::default(),
            contexts: Vec::new(),
            without_graph: false,
        }
    };
    let at_name = |name: &str| Place::Graph.model(graph::INITIALIZER, &at(name));
    let check = |graph: &[u8], path: &str, weights: Option<&str>| {
        entry(graph, path, weights).check_graph(root.path()).map_err(|error| error.to_string())
    };
    assert_eq!(check(&at_name("step.data"), "f32/step.onnx", Some("f32/step.data")), Ok(()));
    assert_eq!(check(&at_name("f32/step.data"), "step.onnx", Some("f32/step.data")), Ok(()));
    // Another flavour's weights.
    assert_eq!(check(&at_name("../int8/a.data"), "f32/step.onnx", Some("int8/a.data")), Ok(()));
    let cases = [
        ("step.data", "f32/step.onnx", None, "step.onnx: constant \"weight\": expected no file"),
        ("step.data", "f32/step.onnx", Some("int8/step.data"), "expected its values in \"../int8"),
        ("../a/b/c.data", "f32/step.onnx", Some("a/b/c.data"), "expected weights beside"),
        ("../step.data", "f32/step.onnx", Some("step.data"), "expected weights beside"),
        ("step.data", "f32/step.ort", Some("f32/step.data"), "found the name of another format"),
    ];
    for (name, path, weights, expected) in cases {
        let error = check(&at_name(name), path, weights).expect_err(expected);
        assert!(error.contains(expected), "expected {expected:?}, found {error}");
    }
    let changed = entry(&at_name("step.data"), "f32/step.onnx", Some("f32/step.data"));
    let other = at_name("stop.data");
    std::fs::write(root.path().join("f32/step.onnx"), other).expect("written");
    let error = changed.check_graph(root.path()).expect_err("changed").to_string();
    assert!(error.contains("the file was changed"), "{error}");
}

#[test]
fn what_was_compiled_ahead_names_its_binary_and_nothing_else() {
    type Attribute<'a> = (&'a str, Option<&'a str>, Option<u64>);
    let context = |attributes: &[Attribute<'_>]| {
        message(|node| {
            node.text(node::OP_TYPE, CONTEXT).text(node::DOMAIN, "com.microsoft");
            for (name, text, number) in attributes {
                let attribute = message(|attribute| {
                    if let Some(text) = text {
                        attribute.text(attribute::S, text);
                    }
                    if let Some(number) = number {
                        attribute.number(attribute::I, *number);
                    }
                    attribute.text(attribute::NAME, name);
                });
                node.message(node::ATTRIBUTE, &attribute);
            }
        })
    };
    let named = |name| ("ep_cache_context", Some(name), None);
    let outside = ("embed_mode", None, Some(0));
    let good = Place::Graph.model(graph::NODE, &context(&[named("step.data"), outside]));
    check(&good, Some(WEIGHTS), Writer::Compiler).expect("its binary");
    for writer in [Writer::Exporter, Writer::OnnxRuntime] {
        let error = check(&good, Some(WEIGHTS), writer).expect_err("no graph").to_string();
        let expected = "operator \"EPContext\": expected a graph, found what was compiled ahead";
        assert_eq!(error, expected);
    }
    check(&good, None, Writer::Compiler).expect_err("there is no binary");
    let cases: [(&[Attribute<'_>], &str); 6] = [
        (&[named("/etc/passwd"), outside], "found \"/etc/passwd\""),
        (&[named("../step.data"), outside], "found \"../step.data\""),
        (&[named("step.data"), named("b"), outside], "found \"b\""),
        (&[named("step.data")], "found one inside the graph, or none"),
        (&[named("step.data"), ("embed_mode", None, Some(1))], "found one inside the graph"),
        (&[outside], "found one inside the graph, or none"),
    ];
    for (attributes, expected) in cases {
        for place in PLACES {
            let model = place.model(graph::NODE, &context(attributes));
            let error = check(&model, Some(WEIGHTS), Writer::Compiler).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}

#[test]
fn names_are_shown_escaped_and_bounded() {
    let name = format!("\u{1b}[2J{}", "x".repeat(9000));
    let error = check(&Place::Graph.model(graph::NODE, &node(&name)), None, Writer::Exporter);
    let error = error.expect_err("another domain").to_string();
    assert!(error.len() < 300 && error.contains("\\u{1b}[2Jxx"), "{error}");
}

proptest! {
    /// Wherever a constant of another file stands, and whatever stands around it.
    #[test]
    fn no_file_outside_is_missed(
        place in 0..PLACES.len(),
        location in "[a-z./]{0,12}",
        before in prop::collection::vec(any::<bool>(), 0..4),
    ) {
        prop_assume!(location != WEIGHTS.name);
        let good = Place::Graph.model(graph::INITIALIZER, &at("step.data"));
        let evil = PLACES[place].model(graph::INITIALIZER, &at(&location));
        // Models that follow one another are one.
        let (mut model, mut whole) = (Vec::<u8>::new(), Vec::<u8>::new());
        for good_first in before {
            if good_first { model.extend(&good) } else { whole.extend(&good) }
        }
        model.extend(evil);
        model.extend(whole);
        prop_assert!(check(&model, Some(WEIGHTS), Writer::OnnxRuntime).is_err());
    }

    #[test]
    fn changed_bytes_never_panic_and_never_lead_out(
        place in 0..PLACES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut model = PLACES[place].model(graph::INITIALIZER, &at("step.data"));
        for (index, byte) in changes {
            let at = index.index(model.len());
            model[at] = byte;
        }
        let is_named = model.windows(9).any(|window| window == b"step.data");
        if check(&model, Some(WEIGHTS), Writer::Exporter).is_ok() && !is_named {
            // What is accepted without the name has no constant left that lies anywhere.
            prop_assert!(check(&model, None, Writer::Exporter).is_ok());
        }
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = check(&bytes, Some(WEIGHTS), Writer::Exporter);
    }
}
