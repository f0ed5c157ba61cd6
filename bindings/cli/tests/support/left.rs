//! What providers leave to the CPU of the f32 flavour of models/tiny-world, by stage and operator. The
//! rules of the exporter are held to the same file.

use std::collections::BTreeMap;

use pocketmuse::{Provider, StageReport};
use pocketmuse_package::Stage;

/// Checks what a report says of stages that `provider` computed.
pub(crate) fn check(provider: Provider, stages: &[StageReport]) -> Result<(), String> {
    let all: BTreeMap<String, BTreeMap<Stage, BTreeMap<String, usize>>> =
        serde_json::from_str(include_str!("../../../../export/src/rules/left.json"))
            .map_err(|error| error.to_string())?;
    let expected = &all[provider.name()];
    for (stage, left) in expected {
        let report = stages.iter().find(|report| report.name == stage.name());
        let nodes = report.and_then(|report| report.nodes.as_ref());
        let nodes = nodes.ok_or_else(|| format!("{provider}: expected nodes of {stage}"))?;
        println!("{provider}: f32 {stage} {nodes}");
        let found = (&nodes.left, nodes.all - nodes.taken);
        if found != (left, left.values().sum()) {
            return Err(format!("{provider}: {stage}: expected {left:?}, found {found:?}"));
        }
    }
    Ok(())
}
