//! What a graph of a package may hold, checked before ONNX Runtime sees it: constants that lie in
//! the graph itself or in the stage's own weights file, and operators that a runtime without
//! plug-ins has. Knows where ONNX keeps constants and operators, not what they compute.
//!
//! Versions of ONNX Runtime differ in what they read: some follow a constant's file out of the
//! package, and all read files that the manifest does not list, so that its digest does not cover
//! them.

use std::path::Path;

use crate::{
    ContextEntry, Error, ErrorKind, Result, StageEntry,
    constant::Constant,
    files,
    onnx::{self, attribute, function, graph, model, node, sparse, training},
    wire::{self, Field},
};

/// A larger graph is refused before it is read: weights lie in a file of their own.
pub const MAX_BYTES: u64 = 64 << 20;

/// Graphs inside each other, at most.
const MAX_DEPTH: usize = 16;

/// Characters of a name that an error repeats.
const SHOWN_CHARACTERS: usize = 80;

/// The domain of the runtime's own operators, which stand for others when a graph is loaded. No
/// package has them.
pub const OWN_DOMAIN: &str = "pocketmuse";

/// The domain of the operators that ONNX Runtime adds to those of ONNX.
pub const MICROSOFT_DOMAIN: &str = "com.microsoft";

/// The operator that stands for what a provider compiled ahead. Its attributes name a file, which a
/// provider reads.
pub const CONTEXT: &str = "EPContext";

/// Who wrote a graph, which decides what operators it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// An exporter: operators of ONNX and of ONNX Runtime.
    Exporter,
    /// ONNX Runtime, when it optimised a graph for this machine: its layouts of convolutions too,
    /// and operators of the runtime's own.
    OnnxRuntime,
    /// ONNX Runtime, when a provider compiled a graph ahead: one operator, [`CONTEXT`], names the
    /// binary, which nobody else may name.
    Compiler,
}

impl Writer {
    /// The domains of the operators. ONNX's own has two names.
    fn domains(self) -> &'static [&'static str] {
        const ALL: [&str; 6] = [
            "",
            "ai.onnx",
            MICROSOFT_DOMAIN,
            "com.microsoft.nchwc",
            "com.ms.internal.nhwc",
            OWN_DOMAIN,
        ];
        match self {
            Self::Exporter | Self::Compiler => &ALL[..3],
            Self::OnnxRuntime => &ALL,
        }
    }
}

/// The file of a stage's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights<'a> {
    /// Its path from the graph's folder, parts separated by `/`: what the graph calls it.
    pub name: &'a str,
    /// Its size.
    pub bytes: u64,
}

/// Checks the graph of a stage, the bytes of an ONNX model. `weights` is the one file that its
/// constants may lie in.
///
/// # Errors
///
/// `PackageDamaged` if it is no model, if a constant lies in another file, or beyond the end of
/// this one, or is of another size than its shape says, if an operator is of a domain that a
/// package cannot have, or if graphs are nested too deeply.
///
/// # Example
///
/// ```
/// use pocketmuse_package::{graph::{Writer, check}, onnx, wire::Message};
///
/// let [mut node, mut graph, mut model] = [(); 3].map(|()| Message::default());
/// node.text(onnx::node::OP_TYPE, "Run").text(onnx::node::DOMAIN, "org.example");
/// graph.message(onnx::graph::NODE, &node);
/// model.message(onnx::model::GRAPH, &graph);
/// let error = check(&model.into_bytes(), None, Writer::Exporter).expect_err("another domain");
/// assert!(error.to_string().starts_with("operator \"Run\": expected one of the domains"));
/// ```
pub fn check(model: &[u8], weights: Option<Weights<'_>>, writer: Writer) -> Result<()> {
    let mut check = Check { weights, writer, domains: writer.domains(), fault: None };
    match (check.model(model), check.fault) {
        (_, Some(fault)) => Err(fault),
        (Some(()), None) => Ok(()),
        (None, None) => Err(damaged("", "expected an ONNX graph, found something else")),
    }
}

impl StageEntry {
    /// Checks the graph's file in the package at `root`, and those of its contexts: see [`check`].
    /// Its contents may differ
    /// from what was exported: that is [`FileEntry::check`](crate::FileEntry::check)'s to say.
    ///
    /// # Errors
    ///
    /// As for [`check`]; `Io` if the file cannot be read. A file that was changed says so.
    pub fn check_graph(&self, root: &Path) -> Result<()> {
        self.contexts.iter().try_for_each(|context| context.read(root).map(drop))?;
        if self.without_graph {
            return Ok(());
        }
        let path = self.graph.locate(root);
        let model = files::read_bounded(&path, MAX_BYTES, ErrorKind::PackageDamaged)?;
        self.check_model(&model, Writer::Exporter).map_err(|fault| {
            let changed = self.graph.check(root).err();
            changed.unwrap_or_else(|| fault.within(path.display()))
        })
    }

    /// Checks a graph of this stage that is in memory: see [`check`].
    ///
    /// # Errors
    ///
    /// As for [`check`].
    pub fn check_model(&self, model: &[u8], writer: Writer) -> Result<()> {
        if self.graph.path.to_ascii_lowercase().ends_with(".ort") {
            return Err(damaged("", "expected an ONNX graph, found the name of another format"));
        }
        let name = self.weights_name()?;
        let weights = name.as_deref().zip(self.weights.as_ref());
        let weights = weights.map(|(name, file)| Weights { name, bytes: file.bytes });
        check(model, weights, writer)
    }

    /// What the graph calls its weights' file, if it has one: its path from the graph's own folder.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if that is neither beside the graph nor in another flavour's folder.
    pub fn weights_name(&self) -> Result<Option<String>> {
        let Some(weights) = &self.weights else { return Ok(None) };
        weights_name(&self.graph.path, &weights.path).map(Some).ok_or_else(|| {
            let detail = format!("expected weights beside {:?}", self.graph.path);
            damaged(shown(weights.path.as_bytes()), detail)
        })
    }
}

impl ContextEntry {
    /// Reads its graph in the package at `root`, and checks that it names the binary and no other
    /// file.
    ///
    /// # Errors
    ///
    /// As for [`check`]; `Io` if it cannot be read. A file that was changed says so.
    pub fn read(&self, root: &Path) -> Result<Vec<u8>> {
        let path = self.graph.locate(root);
        let model = files::read_bounded(&path, MAX_BYTES, ErrorKind::PackageDamaged)?;
        let name = weights_name(&self.graph.path, &self.binary.path);
        let name = name.filter(|name| !name.contains('/'));
        let binary = name.as_deref().map(|name| Weights { name, bytes: self.binary.bytes });
        check(&model, binary, Writer::Compiler).map_err(|fault| {
            let changed = self.graph.check(root).err();
            changed.unwrap_or_else(|| fault.within(path.display()))
        })?;
        Ok(model)
    }
}

/// What a graph calls its weights' file, by the paths of both in the package; `None` if that is
/// neither beside the graph nor in another flavour's folder.
pub fn weights_name(graph: &str, weights: &str) -> Option<String> {
    let folder = graph.rfind('/').map_or(0, |slash| slash + 1);
    if let Some(name) = weights.strip_prefix(&graph[..folder]) {
        return Some(name.to_owned());
    }
    let are_of_flavours = [graph, weights].iter().all(|path| path.matches('/').count() == 1);
    are_of_flavours.then(|| format!("../{weights}"))
}

/// A walk through a model. Its steps return `None` to stop: at a fault, or at bytes that are no
/// message.
struct Check<'a> {
    weights: Option<Weights<'a>>,
    writer: Writer,
    domains: &'static [&'static str],
    fault: Option<Error>,
}

impl Check<'_> {
    fn model(&mut self, bytes: &[u8]) -> Option<()> {
        wire::for_each(bytes, |number, field| match (number, field) {
            (model::GRAPH, Field::Bytes(inner)) => self.graph(inner, MAX_DEPTH),
            (model::TRAINING, Field::Bytes(inner)) => {
                wire::for_each(inner, |number, field| match (number, field) {
                    (training::INITIALIZATION | training::ALGORITHM, Field::Bytes(inner)) => {
                        self.graph(inner, MAX_DEPTH)
                    }
                    _ => Some(()),
                })
            }
            (model::FUNCTION, Field::Bytes(inner)) => {
                wire::for_each(inner, |number, field| match (number, field) {
                    (function::NODE, Field::Bytes(inner)) => self.node(inner, MAX_DEPTH),
                    (function::ATTRIBUTE, Field::Bytes(inner)) => self.attribute(inner, MAX_DEPTH),
                    _ => Some(()),
                })
            }
            _ => Some(()),
        })
    }

    fn graph(&mut self, bytes: &[u8], depth: usize) -> Option<()> {
        let Some(depth) = depth.checked_sub(1) else {
            let detail = format!("expected at most {MAX_DEPTH} graphs inside each other");
            return self.refuse(damaged("", detail));
        };
        wire::for_each(bytes, |number, field| match (number, field) {
            (graph::NODE, Field::Bytes(inner)) => self.node(inner, depth),
            (graph::INITIALIZER, Field::Bytes(inner)) => self.initializer(inner),
            (graph::SPARSE_INITIALIZER, Field::Bytes(inner)) => self.sparse(inner),
            _ => Some(()),
        })
    }

    fn node(&mut self, bytes: &[u8], depth: usize) -> Option<()> {
        let (mut op, mut foreign) = (&b""[..], None);
        wire::for_each(bytes, |number, field| match (number, field) {
            (node::OP_TYPE, Field::Bytes(name)) => {
                op = name;
                Some(())
            }
            (node::DOMAIN, Field::Bytes(domain)) => {
                if !self.domains.iter().any(|known| known.as_bytes() == domain) {
                    foreign = Some(domain);
                }
                Some(())
            }
            (node::ATTRIBUTE, Field::Bytes(inner)) => self.attribute(inner, depth),
            _ => Some(()),
        })?;
        if op == CONTEXT.as_bytes() {
            self.ahead(bytes)?;
        }
        let Some(domain) = foreign else { return Some(()) };
        let known: Vec<_> = self.domains.iter().filter(|name| !name.is_empty()).copied().collect();
        let (known, found) = (known.join(", "), shown(domain));
        let detail = format!("expected one of the domains {known}, found {found}");
        self.refuse(damaged(format!("operator {}", shown(op)), detail))
    }

    /// What was compiled ahead lies in the stage's own binary, wherever else a provider could look.
    fn ahead(&mut self, bytes: &[u8]) -> Option<()> {
        let refuse = |check: &mut Self, expected: &str, found: &str| {
            let detail = format!("expected {expected}, found {found}");
            check.refuse(damaged(format!("operator {CONTEXT:?}"), detail))
        };
        if self.writer != Writer::Compiler {
            return refuse(self, "a graph", "what was compiled ahead");
        }
        let Some(Weights { name: binary, .. }) = self.weights else {
            return refuse(self, "a binary beside it", "none");
        };
        let (mut is_named, mut is_outside) = (false, false);
        wire::for_each(bytes, |number, field| {
            let (node::ATTRIBUTE, Field::Bytes(inner)) = (number, field) else { return Some(()) };
            let (mut names, mut texts, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
            wire::for_each(inner, |number, field| {
                match (number, field) {
                    (attribute::NAME, Field::Bytes(name)) => names.push(name),
                    (attribute::S, Field::Bytes(text)) => texts.push(text),
                    (attribute::I, Field::Number(value)) => numbers.push(value),
                    _ => {}
                }
                Some(())
            })?;
            if names.contains(&&b"ep_cache_context"[..]) {
                let other = texts.iter().find(|text| **text != binary.as_bytes());
                if let Some(other) = other {
                    return refuse(self, &format!("the binary {binary:?}"), &shown(other));
                }
                is_named = true;
            }
            if names.contains(&&b"embed_mode"[..]) {
                is_outside = numbers == [0];
            }
            Some(())
        })?;
        if is_named && is_outside {
            return Some(());
        }
        refuse(self, &format!("the binary {binary:?}"), "one inside the graph, or none")
    }

    fn attribute(&mut self, bytes: &[u8], depth: usize) -> Option<()> {
        wire::for_each(bytes, |number, field| match (number, field) {
            (attribute::G | attribute::GRAPHS, Field::Bytes(inner)) => self.graph(inner, depth),
            (attribute::T | attribute::TENSORS, Field::Bytes(inner)) => self.inside(inner),
            (attribute::SPARSE_TENSOR | attribute::SPARSE_TENSORS, Field::Bytes(inner)) => {
                self.sparse(inner)
            }
            _ => Some(()),
        })
    }

    fn sparse(&mut self, bytes: &[u8]) -> Option<()> {
        wire::for_each(bytes, |number, field| match (number, field) {
            (sparse::VALUES | sparse::INDICES, Field::Bytes(inner)) => self.inside(inner),
            _ => Some(()),
        })
    }

    /// A constant whose values must be in the graph itself: any but an initializer. Protobuf merges
    /// those that come in pieces, and no piece may lead out.
    fn inside(&mut self, bytes: &[u8]) -> Option<()> {
        let constant = Constant::of(bytes)?;
        if !constant.is_outside {
            return Some(());
        }
        let detail = "expected its values inside the graph, found a file named";
        self.refuse(damaged(constant.place(), detail))
    }

    fn initializer(&mut self, bytes: &[u8]) -> Option<()> {
        let constant = Constant::of(bytes)?;
        if !constant.is_outside {
            return Some(());
        }
        match constant.check(self.weights) {
            Err(detail) => self.refuse(damaged(constant.place(), detail)),
            Ok(()) => Some(()),
        }
    }

    fn refuse(&mut self, fault: Error) -> Option<()> {
        self.fault = Some(fault);
        None
    }
}

impl Constant<'_> {
    fn place(&self) -> String {
        format!("constant {}", shown(self.name))
    }

    /// Checks that the values lie in `weights`; if not, says what was expected.
    fn check(&self, weights: Option<Weights<'_>>) -> Result<(), String> {
        let (weights, offset, length) = self.found_in(weights)?;
        let Some(bytes) = self.bytes() else {
            let (element, dims) = (self.element, &self.dims);
            return Err(format!("expected a size, found elements of type {element}, {dims:?}"));
        };
        // A length of 0 counts as none.
        if length != 0 && length != bytes {
            return Err(format!("expected {bytes} bytes, as its shape says, found {length}"));
        }
        if offset.checked_add(bytes).is_none_or(|end| end > weights.bytes) {
            let Weights { name, bytes: size } = weights;
            return Err(format!(
                "expected its {bytes} bytes within the {size} of {name:?}, found them at {offset}"
            ));
        }
        Ok(())
    }

    /// The file, the offset and the length that the entries say.
    fn found_in<'w>(
        &self,
        weights: Option<Weights<'w>>,
    ) -> Result<(Weights<'w>, u64, u64), String> {
        let (mut found, mut offset, mut length) = (None, 0, 0);
        for [key, value] in &self.entries {
            match std::str::from_utf8(key).unwrap_or_default() {
                onnx::LOCATION => found = Some(weights_called(value, weights)?),
                onnx::OFFSET => offset = number(key, value)?,
                onnx::LENGTH => length = number(key, value)?,
                onnx::CHECKSUM => {}
                _ => {
                    let key = shown(key);
                    return Err(format!("expected location, offset and length, found {key}"));
                }
            }
        }
        let found = found.ok_or("expected the name of the file of its values, found none")?;
        Ok((found, offset, length))
    }
}

/// The weights, if they are what a constant names.
fn weights_called<'w>(name: &[u8], weights: Option<Weights<'w>>) -> Result<Weights<'w>, String> {
    let found = shown(name);
    match weights {
        Some(weights) if weights.name.as_bytes() == name => Ok(weights),
        Some(Weights { name, .. }) => {
            Err(format!("expected its values in {name:?}, which the manifest lists, found {found}"))
        }
        None => Err(format!("expected no file of values, found {found}")),
    }
}

/// A number of digits alone.
fn number(key: &[u8], text: &[u8]) -> Result<u64, String> {
    let is_plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| is_plain);
    number.and_then(|number| number.parse().ok()).ok_or_else(|| {
        format!("expected a number of bytes as {}, found {}", shown(key), shown(text))
    })
}

/// A name as errors show it: quoted, escaped, bounded.
fn shown(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(&name[..name.len().min(4 * SHOWN_CHARACTERS)]);
    let shown: String = name.chars().take(SHOWN_CHARACTERS).collect();
    format!("{shown:?}")
}

fn damaged(at: impl Into<String>, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::PackageDamaged, at, detail)
}

#[cfg(test)]
mod tests;
