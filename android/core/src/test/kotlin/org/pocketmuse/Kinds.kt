// The kinds of cases: what each does with the library.
package org.pocketmuse

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.toList
import org.json.JSONObject
import java.io.File
import java.lang.management.ManagementFactory
import java.util.concurrent.CountDownLatch
import javax.management.ObjectName
import kotlin.io.path.createTempDirectory

internal typealias Kind = suspend (World, JSONObject) -> Unit

/** By the name that the table has for them. */
internal val kinds: Map<String, Kind> = mapOf(
    "open" to ::open,
    "pixels" to ::pixels,
    "progress" to ::progress,
    "previews" to ::previews,
    "slow" to ::slow,
    "paused" to ::paused,
    "files" to ::files,
    "log" to ::log,
    "cancel" to ::cancel,
    "error" to ::error,
    "closed" to ::closed,
    "capabilities" to ::capabilities,
    "plan" to ::plan,
    "warm" to ::warm,
    "trimmed" to ::trimmed,
    "many-threads" to ::manyThreads,
    "two-jobs" to ::twoJobs,
    "close-during" to ::closeDuring,
    "listener-throws" to ::listenerThrows,
    "listener-blocks" to ::listenerBlocks,
    "listener-calls-back" to ::listenerCallsBack,
    "listener-closes" to ::listenerCloses,
    "resume" to ::resume,
    "growth" to ::growth,
    "readme" to ::readme,
) + packageKinds + doctorKinds

internal fun World.generator(): Generator =
    Generator.open(packageFolder, Options(library = library))

/** A listener that does what it is given to do. */
internal class Ear(
    private val onPreview: (Pixels) -> Unit = {},
    private val onProgress: (JobProgress) -> Unit = {},
) : Listener {
    /** How the job ended. */
    val outcome = CompletableDeferred<Outcome>()

    /** The threads that it was called on. */
    val threads: MutableSet<Thread> = mutableSetOf()

    override fun progress(progress: JobProgress) = here { onProgress(progress) }

    override fun preview(image: Pixels) = here { onPreview(image) }

    override fun frame(frame: UInt, image: GeneratedImage) = here {}

    override fun ended(outcome: Outcome) = here { this.outcome.complete(outcome) }

    private fun here(call: () -> Unit) {
        synchronized(threads) { threads.add(Thread.currentThread()) }
        call()
    }
}

internal suspend fun Ear.images(): List<GeneratedImage> = when (val end = outcome.await()) {
    is Outcome.Finished -> end.images
    is Outcome.Failed -> throw end.error
}

internal suspend inline fun <reified E : Throwable> expectThrown(run: () -> Unit): E {
    try {
        run()
    } catch (failure: Throwable) {
        if (failure is E) return failure
        throw IllegalStateException("expected ${E::class}", failure)
    }
    throw IllegalStateException("expected ${E::class}, found no error")
}

internal fun JobProgress.isStep(at: UInt): Boolean = (phase as? Phase.Step)?.step == at

private suspend fun open(world: World, case: JSONObject) {
    world.generator().use { generator -> check(generator.plan(Request()) > 1_000_000) }
}

private suspend fun capabilities(world: World, case: JSONObject) {
    val can = world.generator().use { it.capabilities() }
    val found = mapOf(
        "model" to can.model,
        "flavours" to can.flavours.map { it.name.lowercase() },
        "flavour" to can.flavour.name.lowercase(),
        "size" to can.size.toInt(),
        "size_multiple" to can.sizeMultiple.toInt(),
        "max_size" to can.maxSize.toInt(),
        "edit" to can.edit,
        "preview" to can.preview,
        "words" to can.words,
    )
    expect(world.capabilities(), found)
}

private suspend fun plan(world: World, case: JSONObject) {
    val options = Options(
        library = world.library,
        memory = case.getLong("memory").toULong(),
        threads = case.getInt("threads").toUInt(),
    )
    Generator.open(world.packageFolder, options).use { generator ->
        expect(world.plan(case), generator.plan(world.work(case)))
        if (case.getString("work") == "generate") {
            expect(world.plan(case), generator.plan(world.request(case)))
        }
    }
}

/** How often a network is loaded for the work of a case, which makes the images that it should. */
private suspend fun loads(world: World, case: JSONObject, generator: Generator): Int {
    var loads = 0
    generator.events(world.work(case)).collect { event ->
        if ((event as? Event.Progress)?.progress?.phase is Phase.Loading) loads += 1
        if (event is Event.Finished) world.check(case, event.images)
    }
    return loads
}

private suspend fun warm(world: World, case: JSONObject) {
    world.generator().use { generator ->
        generator.warm(world.request(case))
        expect(0, loads(world, case, generator))
        check(generator.trim() > 1_000_000) { "much was held" }
        expect(0L, generator.trim())
        check(loads(world, case, generator) >= 4) { "all is loaded again" }
    }
}

private suspend fun trimmed(world: World, case: JSONObject) {
    world.generator().use { generator ->
        lateinit var job: Job
        val started = CountDownLatch(1)
        val ear = Ear(onProgress = { progress ->
            started.await()
            if (progress.isStep(1u)) job.trim()
            if (progress.isStep(2u)) generator.trim()
        })
        job = generator.start(world.work(case), Previews.NO, ear)
        started.countDown()
        world.check(case, ear.images())
        expect(0L, generator.trim())
    }
}

private suspend fun manyThreads(world: World, case: JSONObject) {
    world.generator().use { generator ->
        val can = generator.capabilities()
        val plan = generator.plan(Request())
        coroutineScope {
            val threads = List(case.getInt("threads")) {
                async(Dispatchers.IO) {
                    repeat(20) {
                        expect(can, generator.capabilities())
                        expect(plan, generator.plan(Request()))
                        generator.trim()
                    }
                    world.check(case, generator.run(world.work(case)).images)
                }
            }
            threads.awaitAll()
        }
    }
}

private suspend fun pixels(world: World, case: JSONObject) {
    world.generator().use { generator ->
        val images = mutableListOf<GeneratedImage>()
        generator.events(world.work(case)).collect { event ->
            when (event) {
                is Event.Frame -> images.add(event.image.also { expect(images.size, event.frame) })
                is Event.Finished -> images.addAll(event.images)
                else -> {}
            }
        }
        world.check(case, images)
    }
}

private suspend fun progress(world: World, case: JSONObject) {
    world.generator().use { generator ->
        val seen = mutableListOf<JobProgress>()
        val ear = Ear(onProgress = seen::add)
        generator.start(Work.Generate(world.request(case)), Previews.NO, ear)
        ear.images()
        expect(seen.map { it.share }.sorted(), seen.map { it.share })
        expect(1f, seen.last().share)
        val steps = seen.mapNotNull { it.phase as? Phase.Step }.map { it.step.toInt() }.distinct()
        expect((0 until 8).toList(), steps)
        expect(1, ear.threads.size)
        check(Thread.currentThread() !in ear.threads)
    }
}

private suspend fun previews(world: World, case: JSONObject) {
    world.generator().use { generator ->
        for ((previews, side) in listOf(Previews.WHOLE to 128, Previews.SMALL to 64)) {
            val seen = mutableListOf<Pixels>()
            val ear = Ear(onPreview = seen::add)
            generator.start(Work.Generate(world.request(case)), previews, ear)
            ear.images()
            expect(6, seen.size)
            for (image in seen) {
                expect(listOf(side, side), listOf(image.width, image.height).map { it.toInt() })
                expect(4 * side * side, image.bytes.size)
            }
        }
    }
}

private suspend fun slow(world: World, case: JSONObject) {
    world.generator().use { generator ->
        val work = Work.Generate(world.request(case))
        val steps = mutableListOf<Int>()
        var previews = 0
        // Whoever gives way at every event lets the job run ahead as far as it may.
        generator.events(work).collect { event ->
            kotlinx.coroutines.yield()
            if (event is Event.Preview) previews += 1
            val phase = (event as? Event.Progress)?.progress?.phase
            if (phase is Phase.Step) steps.add(phase.step.toInt())
        }
        expect((0 until 40).toList(), steps.distinct())
        check(previews in 1..40) { "expected 1 to 40 previews, found $previews" }
    }
}

private suspend fun paused(world: World, case: JSONObject) {
    world.generator().use { generator ->
        lateinit var job: Job
        val started = CountDownLatch(1)
        var halts = 0
        val ear = Ear(onProgress = { progress ->
            started.await()
            val phase = progress.phase
            if (phase is Phase.Step) {
                job.pause()
                job.setThreads(phase.step % 2u + 1u)
                halts += 1
                job.goOn()
            }
        })
        job = generator.start(world.work(case), Previews.NO, ear)
        started.countDown()
        world.check(case, ear.images())
        check(halts >= 8)
    }
}

private suspend fun files(world: World, case: JSONObject) {
    world.generator().use { generator ->
        val request = world.request(case)
        val image = generator.generate(request)
        val rgba = image.rgba()
        for (format in listOf(ImageFormat.PNG, ImageFormat.WEBP)) {
            val decoded = decodeImage(image.encode(format))
            check(decoded.bytes.contentEquals(rgba)) { "$format is exact" }
        }
        check(decodeImage(image.encode(ImageFormat.JPEG)).bytes.size == rgba.size)
        expect(request.prompt, image.request().prompt)
        val (row, stride) = 4 * image.width().toInt() to 4 * image.width().toInt() + 12
        val wide = image.rgbaWithStride(stride.toUInt())
        for (y in 0 until image.height().toInt()) {
            val found = wide.copyOfRange(y * stride, y * stride + row)
            check(found.contentEquals(rgba.copyOfRange(y * row, (y + 1) * row))) { "row $y" }
        }
        val error = expectThrown<PocketMuseException.BadRequest> {
            image.rgbaWithStride((row - 1).toUInt())
        }
        expect("stride", error.field)
        expectThrown<PocketMuseException.BadRequest> { decodeImage(byteArrayOf(1, 2, 3)) }
    }
}

private suspend fun log(world: World, case: JSONObject) {
    val lines = mutableListOf<String>()
    val sink = object : LogSink {
        override fun log(level: LogLevel, target: String, line: String) {
            synchronized(lines) { lines.add(line) }
        }
    }
    setLogSink(sink, LogLevel.TRACE)
    try {
        world.generator().use { it.generate(world.request(case)) }
    } finally {
        setLogSink(null, LogLevel.WARN)
    }
    val secret = lines.filter { "Xanadu" in it }
    expect(emptyList(), secret)
    check(lines.isNotEmpty()) { "something was logged" }
}

private suspend fun cancel(world: World, case: JSONObject) {
    world.generator().use { generator ->
        val work = world.work(case)
        when (val moment = case.getString("when")) {
            "before" -> coroutineScope {
                val image = async(start = CoroutineStart.LAZY) { generator.run(work) }
                image.cancel()
                expectThrown<CancellationException> { image.await() }
            }
            "checking", "loading", "step", "decoding" -> coroutineScope {
                val reached = CompletableDeferred<Unit>()
                val image = async(Dispatchers.Default) {
                    generator.events(work).collect { event ->
                        val phase = (event as? Event.Progress)?.progress?.phase
                        val here = when (moment) {
                            "checking" -> phase is Phase.Checking
                            "loading" -> phase is Phase.Loading
                            "step" -> phase is Phase.Step
                            else -> phase is Phase.Decoding
                        }
                        if (here) reached.complete(Unit)
                    }
                }
                reached.await()
                image.cancel()
                expectThrown<CancellationException> { image.await() }
            }
            "after" -> {
                val ear = Ear()
                val job = generator.start(work, Previews.NO, ear)
                world.check(case, ear.images())
                job.cancel()
            }
            "waiting", "paused" -> {
                val halted = CompletableDeferred<Unit>()
                lateinit var first: Job
                val started = CountDownLatch(1)
                val ear = Ear(onProgress = { progress ->
                    started.await()
                    if (progress.isStep(1u) && !halted.isCompleted) { // it is told again after
                        first.pause()
                        halted.complete(Unit)
                    }
                })
                first = generator.start(work, Previews.NO, ear)
                started.countDown()
                halted.await()
                if (moment == "paused") {
                    first.cancel()
                    expectThrown<PocketMuseException.Cancelled> { ear.images() }
                } else {
                    val waits = CompletableDeferred<Unit>()
                    val other = Ear(onProgress = { progress ->
                        if (progress.phase is Phase.Waiting) waits.complete(Unit)
                    })
                    val second = generator.start(work, Previews.NO, other)
                    waits.await()
                    second.cancel()
                    expectThrown<PocketMuseException.Cancelled> { other.images() }
                    first.goOn()
                    world.check(case, ear.images())
                }
            }
            else -> error("unknown moment: $moment")
        }
        world.check(case, generator.run(work).images)
    }
}

private suspend fun error(world: World, case: JSONObject) {
    val number = { key: String -> if (case.has(key)) case.getLong(key) else null }
    val options = Options(
        library = case.optString("library", world.library),
        memory = number("memory")?.toULong(),
        threads = number("threads")?.toUInt(),
        flavour = if (case.has("flavour")) Flavour.valueOf(case.getString("flavour").uppercase())
        else null,
        providers = if (case.has("provider")) {
            val provider = Provider.valueOf(case.getString("provider").uppercase())
            val chosen = case.optJSONObject("options") ?: JSONObject()
            val options = chosen.keys().asSequence().associateWith(chosen::getString)
            Providers(mapOf(Stage.STEP to provider), emptyMap(), mapOf(provider to options))
        } else null,
    )
    val folder = case.optString("package", File(world.packageFolder).name)
    val work = when (case.optString("work", "generate")) {
        "resume" -> Work.Resume(
            if (case.has("state")) File(world.folder, "${case.getString("state")}.state").readBytes()
            else byteArrayOf(1, 2, 3),
        )
        "edit" -> world.work(case)
        else -> Work.Generate(world.request(case))
    }
    val error = expectThrown<PocketMuseException> {
        Generator.open(File(world.folder, folder).path, options).use { it.run(work) }
    }
    expect(case.getString("error"), error::class.simpleName)
    if (error is PocketMuseException.BadRequest) expect(case.getString("field"), error.field)
    if (error is PocketMuseException.NotEnoughMemory) {
        check(error.needed > error.available && error.available == options.memory)
    }
}

private suspend fun closed(world: World, case: JSONObject) {
    val generator = world.generator()
    generator.close()
    generator.close()
    expectThrown<PocketMuseException.Closed> { generator.plan(Request()) }
    expectThrown<PocketMuseException.Closed> { generator.generate(Request()) }
    expectThrown<PocketMuseException.Closed> { generator.events(Request()).toList() }
}

private suspend fun twoJobs(world: World, case: JSONObject) {
    world.generator().use { generator ->
        coroutineScope {
            val both = List(2) { async(Dispatchers.Default) { generator.run(world.work(case)) } }
            both.awaitAll().forEach { world.check(case, it.images) }
        }
    }
}

private suspend fun closeDuring(world: World, case: JSONObject) {
    val generator = world.generator()
    val runs = CompletableDeferred<Unit>()
    val ear = Ear(onProgress = { if (it.isStep(2u)) runs.complete(Unit) })
    generator.start(Work.Generate(world.request(case)), Previews.NO, ear)
    runs.await()
    generator.close()
    check(ear.outcome.isCompleted) { "close waits for the job" }
    expectThrown<PocketMuseException.Closed> { ear.images() }
    expectThrown<PocketMuseException.Closed> { generator.plan(Request()) }
}

private suspend fun listenerThrows(world: World, case: JSONObject) {
    world.generator().use { generator ->
        val known = Ear(onProgress = { progress ->
            if (progress.isStep(2u)) throw PocketMuseException.NoSpace(3u, 2u)
        })
        generator.start(world.work(case), Previews.NO, known)
        val error = expectThrown<PocketMuseException.NoSpace> { known.images() }
        expect(3uL, error.needed)

        val unknown = Ear(onPreview = { throw IllegalStateException("a fault of the app") })
        generator.start(world.work(case), Previews.SMALL, unknown)
        val internal = expectThrown<PocketMuseException.Internal> { unknown.images() }
        check("a fault of the app" in internal.reason) { internal.reason }

        // Who collects events gets back what was thrown.
        val thrown = expectThrown<ArithmeticException> {
            generator.events(world.work(case)).collect { event ->
                if (event is Event.Preview) throw ArithmeticException("in the collector")
            }
        }
        expect("in the collector", thrown.message)
        world.check(case, generator.run(world.work(case)).images)
    }
}

private suspend fun listenerBlocks(world: World, case: JSONObject) {
    world.generator().use { generator ->
        val (blocked, free) = CompletableDeferred<Unit>() to CountDownLatch(1)
        val steps = mutableListOf<UInt>()
        val ear = Ear(onProgress = { progress ->
            (progress.phase as? Phase.Step)?.let { steps.add(it.step) }
            if (progress.isStep(2u)) {
                blocked.complete(Unit)
                free.await()
            }
        })
        generator.start(world.work(case), Previews.NO, ear)
        blocked.await()
        check(!ear.outcome.isCompleted)
        free.countDown()
        world.check(case, ear.images())
        expect((0u until 5u).toList(), steps.distinct())
    }
}

private suspend fun listenerCallsBack(world: World, case: JSONObject) {
    world.generator().use { generator ->
        lateinit var second: Ear
        var asked = false
        val first = Ear(onProgress = { progress ->
            if (progress.isStep(1u) && !asked) {
                asked = true
                check(generator.plan(Request()) > 0)
                second = Ear()
                generator.start(world.work(case), Previews.NO, second)
            }
        })
        generator.start(world.work(case), Previews.NO, first)
        world.check(case, first.images())
        world.check(case, second.images())
    }
}

private suspend fun listenerCloses(world: World, case: JSONObject) {
    val generator = world.generator()
    val ear = Ear(onProgress = { if (it.isStep(1u)) generator.close() })
    generator.start(Work.Generate(world.request(case)), Previews.NO, ear)
    expectThrown<PocketMuseException.Closed> { ear.images() }
}

private suspend fun resume(world: World, case: JSONObject) {
    val name = case.getString("name")
    val file = File(world.folder, "$name.state")
    file.delete()
    val arguments = listOf(world.table.absolutePath, world.folder.absolutePath, "child", name)
    val child = java("org.pocketmuse.CasesKt", arguments).inheritIO().start()
    expect(KILLED, child.waitFor())
    world.generator().use { generator ->
        var frames = 0
        generator.events(Work.Resume(file.readBytes())).collect { event ->
            when (event) {
                is Event.Frame -> world.check(case, event.frame, event.image).also { frames += 1 }
                is Event.Finished -> if (frames == 0) world.check(case, event.images)
                else -> {}
            }
        }
    }
}

/** Java as this process runs it. */
internal fun java(main: String, arguments: List<String>): ProcessBuilder {
    val java = ProcessHandle.current().info().command().get()
    val properties = listOf("java.library.path", "jna.library.path")
        .map { "-D$it=${System.getProperty(it)}" }
    val classes = listOf("-classpath", System.getProperty("java.class.path"), main)
    return ProcessBuilder(listOf(java) + properties + classes + arguments)
}

/** The exit status of a process that was killed at once. */
internal const val KILLED = 137

/** What a process does that a case starts. */
internal suspend fun child(world: World, arguments: List<String>) {
    val name = arguments.first()
    val work = packageChildren[name]
    when {
        work != null -> work(world, arguments.drop(1))
        name == "measure" -> measure(world)
        else -> killed(world, name)
    }
}

/** Writes its state after a step, and is killed while it runs. */
private suspend fun killed(world: World, name: String) {
    val case = world.cases().single { it.getString("name") == name }
    world.generator().use { generator ->
        lateinit var job: Job
        var (steps, last) = 0 to -1
        generator.events(world.work(case)).collect { event ->
            if (event is Event.Started) job = event.job
            val step = ((event as? Event.Progress)?.progress?.phase as? Phase.Step)?.step?.toInt()
            if (step == null || step == last) return@collect
            last = step
            if (steps++ == case.getInt("after")) {
                File(world.folder, "$name.state").writeBytes(checkNotNull(job.state()))
                Runtime.getRuntime().halt(KILLED) // nothing is closed, no hook runs
            }
        }
    }
}

private suspend fun growth(world: World, case: JSONObject) {
    val count = { folder: String -> File("/proc/self/$folder").list().orEmpty().size }
    val resident = {
        System.gc()
        File("/proc/self/statm").readText().split(" ")[1].toLong() * 4096
    }
    world.generator().use { generator ->
        // In the JVM's own words; what a thread holds for itself -Xcheck:jni watches.
        val references = {
            System.gc()
            val beans = ManagementFactory.getPlatformMBeanServer()
            val said = beans.invoke(
                ObjectName("com.sun.management:type=DiagnosticCommand"), "threadPrint",
                arrayOf<Any>(emptyArray<String>()), arrayOf(Array<String>::class.java.name),
            ) as String
            val counts = Regex("JNI global refs: (\\d+), weak refs: (\\d+)").find(said)
            checkNotNull(counts) { said }.groupValues.drop(1).sumOf(String::toInt)
        }
        suspend fun make(images: Int) = repeat(images) {
            val finished = generator.run(world.work(case))
            world.check(case, finished.images)
            finished.images.forEach(GeneratedImage::close)
        }
        make(10)
        val held = references()
        val (files, threads, bytes) = Triple(count("fd"), count("task"), resident())
        val images = case.getInt("images")
        make(images)
        check(count("fd") <= files) { "expected $files open files, found ${count("fd")}" }
        // Java's own threads, of its compilers and coroutines, come and go.
        val most = threads + 4
        check(count("task") <= most) { "expected up to $most threads, found ${count("task")}" }
        // So do references: each of the JVM's compilers has one. What an image leaves behind is
        // there as often as there were images.
        val left = references() - held
        check(left < images / 2) { "expected $held references as before, found $left more" }
        val grown = resident() - bytes
        check(grown < 24 shl 20) { "expected the memory as it was, found $grown bytes more" }
    }
}

private suspend fun readme(world: World, case: JSONObject) {
    val folder = createTempDirectory("readme").toFile()
    try {
        File(world.packageFolder).copyRecursively(File(folder, "amused-512.package"))
        val program = java("ReadmeKt", emptyList()).directory(folder).redirectErrorStream(true)
        program.environment()["ORT_DYLIB_PATH"] = world.library
        val process = program.start()
        val said = process.inputStream.bufferedReader().readText()
        check(process.waitFor() == 0 && "100 %" in said) { said }
        expect(128u, decodeImage(File(folder, "storm.png").readBytes()).width)
    } finally {
        folder.deleteRecursively()
    }
}

/**
 * Prints the times of images as the example `expected` does, and those of previews: in all, on the
 * processor alone, and what drawing takes of it.
 */
private suspend fun measure(world: World) {
    val clock = ManagementFactory.getThreadMXBean()
    var begin = 0L
    val sink = object : LogSink {
        override fun log(level: LogLevel, target: String, line: String) {
            val said = Regex("a preview was drawn in (\\d+) us and taken in (\\d+) us").find(line)
            val (drawn, taken) = said?.destructured ?: return
            // On the job's thread, as what comes before it.
            val worked = (clock.currentThreadCpuTime - begin) / 1000
            println("preview ${drawn.toLong() + taken.toLong()}\ndrawn $drawn\nworked $worked")
        }
    }
    world.generator().use { generator ->
        val request = Request("a red lighthouse")
        repeat(40) { round ->
            val began = System.nanoTime()
            generator.generate(request).rgba()
            if (round >= 20) println("image ${(System.nanoTime() - began) / 1000}")
        }
        setLogSink(sink, LogLevel.TRACE)
        val large = request.copy(width = 512u, height = 512u, numInferenceSteps = 30u)
        val ear = Ear(onProgress = { begin = clock.currentThreadCpuTime })
        generator.start(Work.Generate(large), Previews.WHOLE, ear)
        ear.images()
    }
}
