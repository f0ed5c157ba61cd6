// Loads the native library, so that Java calls its JNI_OnLoad. Knows nothing of images.
package org.pocketmuse

/** The native library, loaded once. */
internal object NativeLibrary {
    private const val NAME = "pocketmuse_mobile"

    private val loaded by lazy { open(System.getProperty("org.pocketmuse.library")) }

    /** Returns whether it lies where the property says, and not where Java looks. */
    private fun open(path: String?): Boolean {
        if (path == null) {
            System.loadLibrary(NAME)
        } else {
            System.load(path)
            System.setProperty("uniffi.component.$NAME.libraryOverride", path) // JNA opens the same
        }
        return path != null
    }

    fun load() {
        loaded
    }
}
