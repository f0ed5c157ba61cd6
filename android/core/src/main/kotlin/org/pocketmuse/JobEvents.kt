// A job's callbacks become events that one coroutine takes: a bridge between two threads.
package org.pocketmuse

import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.channels.trySendBlocking
import java.util.concurrent.atomic.AtomicReference

/** Events that wait to be collected; when so many do, the job waits, too. */
private const val CAPACITY = 16

/** Told on the job's thread, asked by a coroutine. */
internal class JobEvents : Listener {
    private val waiting = Channel<Waiting>(CAPACITY)
    private val preview = AtomicReference<Pixels?>()

    /** How the job ended. */
    val outcome: CompletableDeferred<Outcome> = CompletableDeferred()

    /** The next event but the last one; `null` when the job has ended. */
    suspend fun next(): Event? {
        val next = waiting.receiveCatching().getOrNull() ?: return null
        return when (next) {
            is Waiting.Whole -> next.event
            Waiting.Preview -> preview.getAndSet(null)?.let(Event::Preview)
        }
    }

    /** Nobody takes events any more: the job no longer waits for that. */
    fun abandon() {
        waiting.cancel()
    }

    override fun progress(progress: JobProgress) {
        send(Waiting.Whole(Event.Progress(progress)))
    }

    override fun preview(image: Pixels) {
        if (preview.getAndSet(image) == null) send(Waiting.Preview)
    }

    override fun frame(frame: UInt, image: GeneratedImage) {
        send(Waiting.Whole(Event.Frame(frame.toInt(), image)))
    }

    override fun ended(outcome: Outcome) {
        waiting.close()
        this.outcome.complete(outcome)
    }

    private fun send(event: Waiting) {
        waiting.trySendBlocking(event) // fails only when nobody takes events any more
    }

    private sealed interface Waiting {
        class Whole(val event: Event) : Waiting

        /** The newest preview, whichever that is when it is taken. */
        object Preview : Waiting
    }
}
