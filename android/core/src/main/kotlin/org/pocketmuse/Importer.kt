package org.pocketmuse

import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.channelFlow
import kotlinx.coroutines.flow.conflate

/**
 * Brings a package from its archive into its folder: written beside its place, every file checked on
 * the way, given its name when it is whole. An import that was stopped or killed is taken up again
 * by the next one of the same package to the same folder; while another process imports it there,
 * this one waits.
 *
 * @param archive the path of the archive, or of another package's folder.
 * @param folder the path that the package will have; the folder around it is there already.
 * @param options what is taken of the archive.
 */
public class Importer @JvmOverloads constructor(
    private val archive: String,
    private val folder: String,
    private val options: ImportOptions = ImportOptions(),
) {
    /**
     * Imports the package. Returns when it is in its place; if the coroutine is cancelled, that is
     * as soon as the import has stopped. [onProgress] is called on the import's own thread, and what
     * it throws ends the import.
     *
     * @throws PocketMuseException if it cannot be imported; nothing is in its place then.
     */
    public suspend fun run(onProgress: (ImportProgress) -> Unit = {}) {
        NativeLibrary.load()
        val listener = Told(onProgress)
        NativeImporter.start(archive, folder, options, listener).use { import ->
            val error = ended(listener.error, import::cancel)
            listener.app.rethrow()
            if (error != null) throw error
        }
    }

    /**
     * Imports the package when it is collected, as [run] does, and tells how far it is. Who collects
     * slowly gets the newest and not those before it.
     */
    public fun progress(): Flow<ImportProgress> =
        channelFlow { run { progress -> trySend(progress) } }.conflate()

    /**
     * Removes what imports to this folder that were stopped or killed have left beside it, unless
     * one is still at work.
     *
     * @throws PocketMuseException.Io if it cannot be removed.
     */
    public fun discard() {
        NativeLibrary.load()
        discardImport(folder)
    }

    /** Told on the import's thread. */
    private class Told(private val onProgress: (ImportProgress) -> Unit) : ImportListener {
        /** What it ended with; `null` if the package is in its place. */
        val error = CompletableDeferred<PocketMuseException?>()
        val app = Guarded()

        override fun progress(progress: ImportProgress) {
            app.call { onProgress(progress) }
        }

        override fun ended(error: PocketMuseException?) {
            this.error.complete(error)
        }
    }
}
