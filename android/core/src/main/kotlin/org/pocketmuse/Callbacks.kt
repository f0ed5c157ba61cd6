// What threads of the library's own do, awaited by coroutines, and what apps throw on these threads.
package org.pocketmuse

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Deferred
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.withContext

/** How it ended. A coroutine that is cancelled stops it with [cancel], and waits until it has. */
internal suspend fun <T> ended(how: Deferred<T>, cancel: () -> Unit): T =
    try {
        how.await()
    } catch (cancelled: CancellationException) {
        cancel()
        withContext(NonCancellable) { how.await() }
        throw cancelled
    }

/** Calls an app. What it throws is kept, since it cannot cross the border itself. */
internal class Guarded {
    @Volatile
    private var thrown: Throwable? = null

    fun call(run: () -> Unit) {
        try {
            run()
        } catch (failure: Throwable) {
            thrown = failure
            throw PocketMuseException.Cancelled()
        }
    }

    /** Throws what the app threw. */
    fun rethrow() {
        thrown?.let { throw it }
    }
}
