// Loads the native library, so that Java calls its JNI_OnLoad. Knows nothing of images.
package org.pocketmuse

/** The native library, loaded once. */
internal object NativeLibrary {
    private const val NAME = "pocketmuse_mobile"

    private val loaded: Unit by lazy {
        val path = System.getProperty("org.pocketmuse.library")
        if (path == null) {
            System.loadLibrary(NAME)
        } else {
            System.load(path)
            System.setProperty("uniffi.component.$NAME.libraryOverride", path) // JNA opens the same
        }
    }

    fun load() {
        loaded
    }
}
