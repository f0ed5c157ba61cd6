//! What ONNX Runtime is told before it loads a graph: threads, memory, form, profile.

use ort::{
    ep,
    logging::LogLevel,
    session::{
        Session,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
};

use super::settings::{Form, Settings};
use crate::engine::{
    apart,
    loading::{Intermediates, Loading, Weights},
    runtime::Runtime,
};

/// How many microseconds a thread that spins waits for work before it sleeps: on an idle machine as
/// good as for ever, and short where somebody else wants the core. docs/threads.md has the
/// measurements. ONNX Runtime before 1.32 does not know it and spins for longer.
const SPIN_US: &str = "20";

/// A session to be, as `settings` say.
pub(super) fn builder(runtime: &Runtime, settings: Settings<'_>) -> ort::Result<SessionBuilder> {
    let Loading { intermediates, weights } = settings.loading;
    let is_apart = settings.loading.is_apart() && apart::is_there(runtime.environment());
    let arena = !is_apart && intermediates != Intermediates::Freed;
    let cpu = ep::CPU::default().with_arena_allocator(arena).build().error_on_failure();
    // A CPU before another provider would take every node.
    let providers = if settings.target.is_some() { Vec::new() } else { vec![cpu] };
    let builder = Session::builder(runtime.environment())?
        // No device policy, which `api-22` would bring: the provider named here is the only one,
        // since another is another flavour, never a surprise, and some builds find no device.
        .with_execution_providers(providers)?
        .with_log_level(LogLevel::Warning)?
        .with_intra_threads(settings.threads)?
        .with_intra_op_spinning(!settings.sharing.sleeping_threads)?
        .with_config_entry("session.intra_op.spin_duration_us", SPIN_US)?
        // Between two runs nothing is worth waiting for.
        .with_config_entry("session.force_spinning_stop", "1")?
        .with_inter_threads(1)?
        .with_parallel_execution(false)?
        .with_prepacking(weights == Weights::Packed)?
        // A pattern holds for one shape of all inputs, and the positions asked for change from run
        // to run.
        .with_memory_pattern(false)?
        // Products of integers that a graph has as floats stay so exact: ONNX Runtime would round
        // their left sides once more, to 8 bits.
        .with_config_entry("session.qdq_matmulnbits_accuracy_level", "1")?
        // Bytes that are checked as ONNX are read as ONNX, not as a format that they may be too.
        .with_config_entry("session.load_model_format", "ONNX")?;
    let builder = if is_apart { builder.with_env_allocators()? } else { builder };
    let builder = match settings.sharing.dynamic_block_base {
        Some(base) => builder.with_dynamic_block_base(base.get().into())?,
        None => builder,
    };
    let builder = match settings.profile {
        // Another provider is given the graph that it always is.
        Some(path) if settings.target.is_some() => builder.with_profiling(path)?,
        Some(path) => builder
            .with_profiling(path)?
            .with_optimization_level(GraphOptimizationLevel::Disable)?,
        None => builder,
    };
    match settings.form {
        Form::Exported | Form::Floats => Ok(builder),
        // Told of no file for constants, ONNX Runtime leaves those that it did not change where they
        // are.
        Form::Saved(path) => Ok(builder.with_optimized_model_path(path)?),
        Form::Optimised(_) => Ok(builder.with_optimization_level(GraphOptimizationLevel::Disable)?),
    }
}
