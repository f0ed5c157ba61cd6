// The kinds of cases about what other providers than the CPU do here.
package org.pocketmuse

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.async
import kotlinx.coroutines.coroutineScope
import org.json.JSONObject
import kotlin.io.path.createTempDirectory

/** By the name that the table has for them. */
internal val doctorKinds: Map<String, Kind> = mapOf(
    "doctor" to ::doctor,
    "doctor-proves" to ::doctorProves,
    "doctor-cancelled" to ::doctorCancelled,
    "doctor-throws" to ::doctorThrows,
    "doctor-error" to ::doctorError,
)

/** With OpenVINO, if it is here. */
private suspend fun withOpenVino(world: World, run: suspend (Options) -> Unit) {
    val plugin = world.openVino
    if (plugin == null) {
        println("skipped: a case of a doctor: there is no OpenVINO for this machine")
        return
    }
    val prepared = createTempDirectory("doctor").toFile()
    try {
        val providers = Providers(emptyMap(), mapOf(Provider.OPEN_VINO to plugin))
        run(Options(library = world.library, prepared = prepared.path, providers = providers))
    } finally {
        prepared.deleteRecursively()
    }
}

private suspend fun doctor(world: World, case: JSONObject) {
    val report = Doctor(world.packageFolder, Options(library = world.library)).run { _, _ ->
        error("nothing is to be proved")
    }
    check(report.good && report.stages.isEmpty() && report.version.isNotEmpty())
    expect(world.build, report.machine.build)
    check(report.machine.cores > 0u && report.machine.library.isNotEmpty())
    expect(world.capabilities()["model"], report.`package`?.model)
    expect(64, report.`package`?.digest?.length)
    val here = report.providers.filter { it.here }.map { it.name }
    check(here.containsAll(listOf(Provider.CPU, Provider.OPEN_VINO, Provider.QNN))) { "$here" }
    check(report.providers.none { it.library != null || it.devices.isNotEmpty() })
    expect(null, Doctor(options = Options(library = world.library)).run().`package`)
}

private suspend fun doctorProves(world: World, case: JSONObject) = withOpenVino(world) { options ->
    val told = mutableListOf<Stage>()
    val first = Doctor(world.packageFolder, options).run { stage, provider ->
        expect(Provider.OPEN_VINO, provider)
        told.add(stage)
    }
    expect(Stage.entries.toSet(), told.toSet())
    expect(Stage.entries.toSet(), first.stages.map { it.stage }.toSet())
    for (stage in first.stages) {
        check(stage.flavour == Flavour.INT8 && stage.provider == Provider.OPEN_VINO)
        check(stage.sentence.isNotEmpty() && stage.reason.isNotEmpty())
        expect(stage.good, stage.advice == null)
        if (stage.good) {
            val times = listOf(stage.loadMs, stage.runMs, stage.cpuLoadMs, stage.cpuRunMs)
            check(times.all { it != null && it > 0 }) { "$times" }
            check(stage.heldBytes != null && stage.peakBytes != null && stage.nodes != null)
        }
    }
    // Its Scan is refused everywhere; the text encoder is near everywhere.
    check(first.stages.single { it.stage == Stage.TEXT_ENCODER }.good)
    check(!first.stages.single { it.stage == Stage.DECODER }.good && !first.good)
    val provider = first.providers.single { it.name == Provider.OPEN_VINO }
    check(provider.library != null && provider.devices.isNotEmpty()) { "$provider" }

    // What is known is not proved again, but with `again`.
    told.clear()
    val second = Doctor(world.packageFolder, options).run { stage, _ -> told.add(stage) }
    expect(first.stages.filter { it.good }, second.stages.filter { it.good })
    check(Stage.TEXT_ENCODER !in told) { "$told" }
    told.clear()
    Doctor(world.packageFolder, options, again = true).run { stage, _ -> told.add(stage) }
    expect(Stage.entries.toSet(), told.toSet())
}

private suspend fun doctorCancelled(world: World, case: JSONObject) =
    withOpenVino(world) { options ->
        coroutineScope {
            val reached = CompletableDeferred<Unit>()
            val told = mutableListOf<Stage>()
            val report = async {
                Doctor(world.packageFolder, options).run { stage, _ ->
                    told.add(stage)
                    reached.complete(Unit)
                }
            }
            reached.await()
            report.cancel()
            expectThrown<CancellationException> { report.await() }
            check(told.size < Stage.entries.size) { "$told" }
        }
    }

private suspend fun doctorThrows(world: World, case: JSONObject) = withOpenVino(world) { options ->
    val error = expectThrown<IllegalStateException> {
        Doctor(world.packageFolder, options).run { _, _ -> error("the app's own") }
    }
    expect("the app's own", error.message)
}

private suspend fun doctorError(world: World, case: JSONObject) {
    val providers = Providers(emptyMap(), mapOf(Provider.OPEN_VINO to world.library))
    val options = Options(library = world.library, providers = providers)
    val error = expectThrown<PocketMuseException.BadRequest> {
        Doctor(world.packageFolder, options).run()
    }
    expect("provider_library: openvino", error.field)
    expectThrown<PocketMuseException.Io> { Doctor("nowhere", options).run() }
}
