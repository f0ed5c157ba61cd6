// The kinds of cases about packages: archives that are imported, and packages that change while they
// are open.
package org.pocketmuse

import com.sun.jna.Function
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Deferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.toList
import org.json.JSONObject
import java.io.File
import java.io.IOException
import java.util.concurrent.CountDownLatch
import kotlin.io.path.createTempDirectory

/** By the name that the table has for them. */
internal val packageKinds: Map<String, Kind> = mapOf(
    "import" to ::import,
    "import-part" to ::importPart,
    "import-stopped" to ::importStopped,
    "import-killed" to ::importKilled,
    "import-throws" to ::importThrows,
    "import-twice" to ::importTwice,
    "prepare-twice" to ::prepareTwice,
    "import-error" to ::importError,
    "import-full" to ::importFull,
    "removed" to ::removed,
    "cut-open" to ::cutOpen,
    "forbidden" to ::forbidden,
)

/** What a process does that one of these cases starts. */
internal val packageChildren: Map<String, suspend (World, List<String>) -> Unit> = mapOf(
    "import" to { world, (target) -> Importer(world.archive("whole"), target).run() },
    "import-killed" to { world, (target) ->
        Importer(world.archive("whole"), target).run { progress ->
            if (progress.isLate()) Runtime.getRuntime().halt(KILLED)
        }
    },
    "import-full" to ::fillDisk,
    "open-forbidden" to ::openForbidden,
    "prepare" to { world, (name, prepared) ->
        val case = world.cases().single { it.getString("name") == name }
        val options = Options(library = world.library, prepared = prepared)
        Generator.open(world.packageFolder, options).use { generator ->
            world.check(case, generator.run(world.work(case)).images)
        }
    },
)

private fun ImportProgress.isLate(): Boolean = 4u * doneBytes > 3u * totalBytes

/** Runs something with an empty folder. */
private suspend fun inFolder(run: suspend (File) -> Unit) {
    val folder = createTempDirectory("packages").toFile()
    try {
        run(folder)
    } finally {
        folder.deleteRecursively()
    }
}

/** Starts a process of the tests. */
private fun start(world: World, vararg arguments: String): Process {
    val all = listOf(world.table.absolutePath, world.folder.absolutePath, "child", *arguments)
    return java("org.pocketmuse.CasesKt", all).inheritIO().start()
}

/** Checks that a package makes a case's images; returns whether files were checked for that. */
private suspend fun works(
    world: World,
    case: JSONObject,
    folder: File,
    prepared: File? = null,
): Boolean {
    var checks = false
    val options = Options(library = world.library, prepared = prepared?.path)
    Generator.open(folder.path, options).use { generator ->
        generator.events(world.work(case)).collect { event ->
            if ((event as? Event.Progress)?.progress?.phase is Phase.Checking) checks = true
            if (event is Event.Finished) world.check(case, event.images)
        }
    }
    return checks
}

private suspend fun import(world: World, case: JSONObject) = inFolder { folder ->
    val (target, prepared) = File(folder, "package") to File(folder, "prepared")
    val options = ImportOptions(prepared = prepared.path)
    val seen = mutableListOf<ImportProgress>()
    Importer(world.archive("whole"), target.path, options).run(seen::add)
    expect(seen.map { it.doneBytes }.sorted(), seen.map { it.doneBytes })
    expect(0uL, seen.first().doneBytes)
    expect(seen.last().totalBytes, seen.last().doneBytes)
    works(world, case, target, prepared)

    // What is there already is left as it is.
    val again = Importer(world.archive("whole"), target.path).progress().toList()
    expect(seen.last(), again.last())
    expect(setOf("package", "prepared"), folder.list()?.toSet())
}

private suspend fun importPart(world: World, case: JSONObject) = inFolder { folder ->
    val target = File(folder, "package")
    val options = ImportOptions(flavours = listOf(Flavour.INT8), withoutEncoder = true)
    Importer(world.archive("whole"), target.path, options).run()
    Generator.open(target.path, Options(library = world.library)).use { generator ->
        expect(false, generator.capabilities().edit)
        val pixels = Pixels(ByteArray(16 * 64), 16u, 16u, 64u, Alpha.IGNORED)
        val error = expectThrown<PocketMuseException.Unsupported> {
            generator.edit(Request(), Source(pixels))
        }
        expect("encoder", error.what)
    }
}

/** Imports what is left, and checks that it is not all. */
private suspend fun goesOn(world: World, target: File) {
    check(!target.exists()) { "nothing is in its place" }
    val seen = mutableListOf<ImportProgress>()
    Importer(world.archive("whole"), target.path).run(seen::add)
    // Before it looks what is there it has none.
    val begin = seen.first { it.doneBytes > 0u }
    check(begin.doneBytes > 1_500_000uL) { "expected to go on, found ${seen.first()}" }
    check(target.isDirectory)
}

private suspend fun importStopped(world: World, case: JSONObject) = inFolder { folder ->
    val target = File(folder, "package")
    val importer = Importer(world.archive("whole"), target.path)
    coroutineScope {
        lateinit var running: Deferred<Unit>
        val begun = CountDownLatch(1)
        // Unconfined, so that the import is told before `cancel` returns.
        running = async(Dispatchers.Unconfined) {
            importer.run { progress ->
                begun.await()
                if (progress.isLate()) running.cancel()
            }
        }
        begun.countDown()
        expectThrown<CancellationException> { running.await() }
    }
    goesOn(world, target)
}

private suspend fun importKilled(world: World, case: JSONObject) = inFolder { folder ->
    val target = File(folder, "package")
    expect(KILLED, start(world, "import-killed", target.path).waitFor())
    goesOn(world, target)
}

private suspend fun importThrows(world: World, case: JSONObject) = inFolder { folder ->
    val importer = Importer(world.archive("whole"), File(folder, "package").path)
    val thrown = expectThrown<ArithmeticException> {
        importer.run { if (it.isLate()) throw ArithmeticException("in the app") }
    }
    expect("in the app", thrown.message)
    check(folder.list().orEmpty().isNotEmpty()) { "something is left for the next import" }
    importer.discard()
    expect(emptyList(), folder.list().orEmpty().toList())
}

private suspend fun importTwice(world: World, case: JSONObject) = inFolder { folder ->
    val target = File(folder, "package")
    val both = List(2) { start(world, "import", target.path) }
    both.forEach { expect(0, it.waitFor()) }
    expect(listOf("package"), folder.list()?.toList())
    Generator.open(target.path, Options(library = world.library)).close()
}

private suspend fun prepareTwice(world: World, case: JSONObject) = inFolder { folder ->
    val both = List(2) { start(world, "prepare", case.getString("name"), folder.path) }
    both.forEach { expect(0, it.waitFor()) }
    expect(true, works(world, case, File(world.packageFolder))) // without what is prepared
    expect(false, works(world, case, File(world.packageFolder), folder))
}

private suspend fun importError(world: World, case: JSONObject) = inFolder { folder ->
    val target = File(folder, "inner/package")
    target.parentFile.mkdir()
    val isTaken = case.optBoolean("taken")
    if (isTaken) target.writeText("something else")
    val flavours = case.optString("flavour").uppercase().let { name ->
        if (name.isEmpty()) emptyList() else listOf(Flavour.valueOf(name))
    }
    val importer =
        Importer(world.archive(case.getString("archive")), target.path, ImportOptions(flavours))
    val error = expectThrown<PocketMuseException> { importer.run() }
    expect(case.getString("error"), error::class.simpleName)
    if (error is PocketMuseException.NoSpace) {
        check(error.needed > error.available && error.available > 0u) { "$error" }
    }
    importer.discard()
    expect(if (isTaken) listOf("package") else emptyList(), target.parentFile.list()?.toList())
    expect(listOf("inner"), folder.list()?.toList()) // nothing led out
}

private suspend fun importFull(world: World, case: JSONObject) = inFolder { folder ->
    if (ProcessBuilder("unshare", "--mount", "true").start().waitFor() != 0) {
        println("no disk is filled: this system mounts none for us")
        return@inFolder
    }
    val bytes = File(world.archive("whole")).length() + (4 shl 20)
    val arguments = listOf(
        world.table.absolutePath, world.folder.absolutePath, "child", "import-full", folder.path,
    )
    val mount = "mount -t tmpfs -o size=$bytes tmpfs \"$0\" && exec \"$@\""
    val shell = listOf("unshare", "--mount", "sh", "-c", mount, folder.path)
    val child = java("org.pocketmuse.CasesKt", arguments)
    expect(0, child.command(shell + child.command()).inheritIO().start().waitFor())
}

/** Imports to a disk that has room, and fills it on the way. */
private suspend fun fillDisk(world: World, arguments: List<String>) {
    val folder = File(arguments.single())
    val target = File(folder, "package")
    var isFull = false
    val error = expectThrown<PocketMuseException.NoSpace> {
        Importer(world.archive("whole"), target.path).run { progress ->
            if (progress.doneBytes > 0u && !isFull) {
                isFull = true
                fill(File(folder, "full"))
            }
        }
    }
    check(isFull && error.needed > error.available) { "$error" }
    check(!target.exists()) { "nothing is in its place" }
    File(folder, "full").delete()
    Importer(world.archive("whole"), target.path).run()
    check(target.isDirectory) { "with room it goes on" }
}

private fun fill(file: File) {
    file.outputStream().use { out ->
        try {
            while (true) out.write(ByteArray(4096))
        } catch (full: IOException) {
            return
        }
    }
}

/** Runs something with a copy of the package, whose largest file comes along. */
private suspend fun withCopy(world: World, run: suspend (File, File) -> Unit) = inFolder { folder ->
    val copy = File(folder, "package")
    File(world.packageFolder).copyRecursively(copy)
    run(copy, copy.walk().filter { it.isFile }.maxBy { it.length() })
}

private suspend fun removed(world: World, case: JSONObject) = withCopy(world) { copy, _ ->
    Generator.open(copy.path, Options(library = world.library)).use { generator ->
        world.check(case, generator.run(world.work(case)).images)
        // A job with all that it needs comes to its end, the next one does not begin.
        val ear = Ear(onProgress = { if (it.isStep(0u)) copy.deleteRecursively() })
        generator.start(world.work(case), Previews.NO, ear)
        world.check(case, ear.images())
        repeat(2) {
            expectThrown<PocketMuseException.PackageDamaged> { generator.run(world.work(case)) }
            generator.trim()
        }
    }
}

private suspend fun cutOpen(world: World, case: JSONObject) = withCopy(world) { copy, largest ->
    Generator.open(copy.path, Options(library = world.library)).use { generator ->
        generator.generate(world.request(case)).close() // every file was checked now
        generator.trim()
        largest.writeBytes(largest.readBytes().copyOf(largest.length().toInt() / 2))
        repeat(2) {
            val error = expectThrown<PocketMuseException> {
                generator.generate(world.request(case))
            }
            expect(case.getString("error"), error::class.simpleName)
        }
    }
}

private suspend fun forbidden(world: World, case: JSONObject) = inFolder { folder ->
    val manifest = File(world.packageFolder, "manifest.json").copyTo(File(folder, "manifest.json"))
    check(manifest.setReadable(false, false)) { "it can be kept from everybody" }
    expect(0, start(world, "open-forbidden", folder.path).waitFor())
}

/** Opens a package that nobody may read; root, who may read all, becomes somebody else first. */
private suspend fun openForbidden(world: World, arguments: List<String>) {
    val folder = arguments.single()
    // Loads what the next call takes, while this process may still read it.
    expectThrown<PocketMuseException.Io> { Generator.open(File(folder, "nowhere").path) }
    val call = { name: String, words: Array<Any> -> Function.getFunction("c", name).invokeInt(words) }
    if (call("geteuid", emptyArray()) == 0) expect(0, call("setuid", arrayOf(65534)))
    val error = expectThrown<PocketMuseException.Io> { Generator.open(folder) }
    check("ermission denied" in error.reason) { error.reason }
}
