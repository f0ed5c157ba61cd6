package org.pocketmuse

import kotlinx.coroutines.CompletableDeferred

/**
 * Says what can be used on this device: ONNX Runtime, the processor, memory, and what other providers
 * than the CPU show of a package's stages. Nothing about the user is in it: a report may be sent.
 *
 * @param packageFolder whose stages are looked at; by default none.
 * @param options how it is opened. Its providers compute the stages that they are named for; where
 *     none is named, each that has a library computes all. Its flavour is looked at, or all that the
 *     package has. What is found out is kept in `prepared`.
 * @param again whether providers are proved again of which everything is known.
 */
public class Doctor @JvmOverloads constructor(
    private val packageFolder: String? = null,
    private val options: Options = Options(),
    private val again: Boolean = false,
) {
    /**
     * Looks at everything, and returns what it found: also what is refused. If the coroutine is
     * cancelled, it returns as soon as the provider comes back. [onStage] is called before a stage is
     * proved, which takes seconds or minutes, on the doctor's own thread; what it throws ends the
     * doctor.
     *
     * @throws PocketMuseException if not everything can be looked at.
     */
    public suspend fun run(onStage: (Stage, Provider) -> Unit = { _, _ -> }): DoctorReport {
        NativeLibrary.load()
        val told = Told(onStage)
        NativeDoctor.start(packageFolder, options, again, told).use { doctor ->
            val outcome = ended(told.outcome, doctor::cancel)
            told.app.rethrow()
            return when (outcome) {
                is DoctorOutcome.Finished -> outcome.report
                is DoctorOutcome.Failed -> throw outcome.error
            }
        }
    }

    /** Told on the doctor's thread. */
    private class Told(private val onStage: (Stage, Provider) -> Unit) : DoctorListener {
        val outcome = CompletableDeferred<DoctorOutcome>()
        val app = Guarded()

        override fun proving(stage: Stage, provider: Provider) {
            app.call { onStage(stage, provider) }
        }

        override fun ended(outcome: DoctorOutcome) {
            this.outcome.complete(outcome)
        }
    }
}
