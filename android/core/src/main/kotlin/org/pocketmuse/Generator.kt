package org.pocketmuse

import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.withContext

/**
 * A package, ready to make images. Its jobs take turns, so the memory in use is that of one. May be
 * used by several threads. Close it when it is no longer needed: [use] does.
 */
public class Generator private constructor(private val native: NativeGenerator) : AutoCloseable {
    /**
     * Makes one image from a prompt. Returns when the job has ended; if the coroutine is cancelled,
     * that is as soon as the job has stopped.
     *
     * @throws PocketMuseException if the image cannot be made.
     */
    public suspend fun generate(request: Request): GeneratedImage =
        run(Work.Generate(request)).images.first()

    /**
     * Makes one image from an image: all of it, or what the mask says. Otherwise as [generate].
     *
     * @throws PocketMuseException if the image cannot be made.
     */
    public suspend fun edit(request: Request, source: Source): GeneratedImage =
        run(Work.Edit(request, source)).images.first()

    /**
     * Does any work, and returns what came of it. Otherwise as [generate].
     *
     * @throws PocketMuseException if it cannot be done.
     */
    public suspend fun run(work: Work): Event.Finished {
        lateinit var finished: Event.Finished
        collect(work, Previews.NO) { event -> if (event is Event.Finished) finished = event }
        return finished
    }

    /** What happens while an image is made. The job starts when the flow is collected, and is
     * stopped when that ends. */
    public fun events(request: Request): Flow<Event> = events(Work.Generate(request))

    /**
     * What happens while any work is done. The job starts when the flow is collected, and is
     * stopped when that ends. Who collects slowly delays the job, and loses nothing but previews.
     * The flow throws [PocketMuseException] if the job fails.
     */
    public fun events(work: Work, previews: Previews = Previews.WHOLE): Flow<Event> =
        flow { collect(work, previews) { event -> emit(event) } }

    /**
     * Starts a job without coroutines. Everything is told to [listener], on the job's own thread.
     *
     * @throws PocketMuseException.Closed if the generator is closed.
     */
    public fun start(work: Work, previews: Previews, listener: Listener): Job =
        native.start(work, previews, listener)

    /**
     * Loads what stays loaded for such an image, and makes none: the first image then comes as soon
     * as the next ones. For progress take [events] of [Work.Warm].
     *
     * @throws PocketMuseException if it cannot be loaded.
     */
    public suspend fun warm(request: Request = Request()) {
        run(Work.Warm(request))
    }

    /**
     * What the package can do. Loads nothing.
     *
     * @throws PocketMuseException.Closed if the generator is closed.
     */
    public fun capabilities(): Capabilities = native.capabilities()

    /**
     * The most memory that the process would hold while it makes such an image, in bytes. Loads
     * nothing.
     *
     * @throws PocketMuseException if the request is refused.
     */
    public fun plan(request: Request): Long = plan(Work.Generate(request))

    /** As for a request, of any work: the images of an edit count, too. */
    public fun plan(work: Work): Long = native.plan(work).toLong()

    /**
     * Drops what stays loaded for the next job: at once if no job runs, else as soon as the running
     * job has finished its step or image; the rest of that job loads every network alone. Returns
     * the bytes that were held. Call it in `onTrimMemory`.
     *
     * @throws PocketMuseException.Closed if the generator is closed.
     */
    public fun trim(): Long = native.trim().toLong()

    /**
     * Stops all jobs, waits for them, and frees everything. Any call after it throws
     * [PocketMuseException.Closed]. In a callback of a job it does not wait for that job.
     */
    override fun close() {
        native.shut()
    }

    /** Runs a job, hands every event on, and returns when the job has ended, however that is. */
    private suspend fun collect(work: Work, previews: Previews, emit: suspend (Event) -> Unit) {
        val events = JobEvents()
        val job = native.start(work, previews, events)
        val outcome = try {
            emit(Event.Started(job))
            while (true) emit(events.next() ?: break)
            events.outcome.await()
        } catch (failure: Throwable) {
            job.cancel()
            events.abandon()
            val outcome = withContext(NonCancellable) { events.outcome.await() }
            if (outcome is Outcome.Finished) outcome.images.forEach(GeneratedImage::close)
            throw failure
        }
        when (outcome) {
            is Outcome.Failed -> throw outcome.error
            is Outcome.Finished ->
                emit(Event.Finished(outcome.images, outcome.request, outcome.truncated))
        }
    }

    public companion object {
        /**
         * Opens a package folder and starts ONNX Runtime. Cheap: loads no graph.
         *
         * ONNX Runtime's usage reports are switched off. An app that sets the environment variable
         * `ORT_DISABLE_TELEMETRY` to `0` before, lets it report.
         *
         * @throws PocketMuseException if it is no package, or ONNX Runtime is missing.
         */
        @JvmStatic
        @JvmOverloads
        public fun open(packageFolder: String, options: Options = Options()): Generator {
            NativeLibrary.load()
            return Generator(NativeGenerator.open(packageFolder, options))
        }
    }
}
