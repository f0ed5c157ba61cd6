// Runs the table of cases that Kotlin and Swift share, and prints a line for each, as cargo does:
//
//     java ... org.pocketmuse.CasesKt TABLE FOLDER      all cases
//     java ... org.pocketmuse.CasesKt TABLE FOLDER child ARGUMENT...      what a case starts
//
// FOLDER is what the example `expected` of pocketmuse-mobile wrote.
package org.pocketmuse

import kotlinx.coroutines.runBlocking
import org.json.JSONArray
import org.json.JSONObject
import java.io.File
import kotlin.system.exitProcess

/** What cases have in common: the table, the folder, what is expected. */
internal class World(val table: File, val folder: File) {
    private val expected = JSONObject(File(folder, "expected.json").readText())
    val packageFolder: String = File(folder, expected.getString("package")).path
    val library: String = File(folder, expected.getString("library")).path

    /** Which ONNX Runtime it is. */
    val build: String = expected.getString("build")

    /** OpenVINO's plug-in; `null` where there is none. */
    val openVino: String? =
        if (expected.isNull("openvino")) null else File(folder, expected.getString("openvino")).path

    /** What the package can do, by the names of Rust's fields. */
    fun capabilities(): Map<String, Any> = expected.getJSONObject("capabilities").toMap()

    /** The memory that the work of a case takes. */
    fun plan(case: JSONObject): Long =
        expected.getJSONObject("plans").getLong(case.getString("name"))

    /** An archive of the package, or one that is refused. */
    fun archive(name: String): String = File(folder, "$name.pocketmuse").path

    /** The table. */
    fun cases(): List<JSONObject> =
        JSONObject(table.readText()).getJSONArray("cases").map { it as JSONObject }

    /** Checks that these are a case's images, byte for byte. */
    fun check(case: JSONObject, images: List<GeneratedImage>) {
        expect(expected.getJSONObject("images").getInt(case.getString("name")), images.size)
        images.forEachIndexed { index, image -> check(case, index, image) }
    }

    /** Checks that this is one of a case's images, byte for byte. */
    fun check(case: JSONObject, index: Int, image: GeneratedImage) {
        val bytes = File(folder, "${case.getString("name")}.$index.expected").readBytes()
        expect(bytes.size, 4 * image.width().toInt() * image.height().toInt())
        check(bytes.contentEquals(image.rgba())) { "image $index differs from Rust's" }
    }

    /** The request that stands in a case. */
    fun request(case: JSONObject): Request = parsed(case.getJSONObject("request"))

    /** The work that stands in a case. */
    fun work(case: JSONObject): Work {
        val request = request(case)
        val name = case.getString("name")
        return when (val work = case.getString("work")) {
            "generate" -> Work.Generate(request)
            "edit" -> Work.Edit(request, source(name, case.getJSONObject("source")))
            "video" -> Work.Video(request, video(name, case.getJSONObject("video")))
            else -> error("unknown work: $work")
        }
    }

    /** As many bytes as a case says, or those that were written for it. */
    private fun bytes(from: JSONObject, file: String): ByteArray =
        if (from.has("bytes")) ByteArray(from.getInt("bytes")) else File(folder, file).readBytes()

    private fun pixels(name: String, from: JSONObject): Pixels = Pixels(
        bytes(from, "$name.rgba"),
        from.getInt("width").toUInt(),
        from.getInt("height").toUInt(),
        from.getInt("stride").toUInt(),
        Alpha.valueOf(from.getString("alpha").uppercase()),
    )

    private fun source(name: String, from: JSONObject): Source {
        val four = { key: String ->
            from.optJSONArray(key)?.let { list -> (0..3).map { list.getInt(it).toUInt() } }
        }
        return Source(
            pixels(name, from),
            mask = from.optJSONObject("mask")?.let {
                val side = { key: String -> it.getInt(key).toUInt() }
                val bytes = bytes(it, "$name.mask")
                Mask(bytes, side("width"), side("height"), side("stride"))
            },
            area = four("area")?.let { (left, top, width, height) ->
                Area(left, top, width, height)
            },
            extend = four("extend")?.let { (left, top, right, bottom) ->
                Sides(left, top, right, bottom)
            },
            paste = from.optBoolean("paste", true),
        )
    }

    private fun video(name: String, from: JSONObject): Video {
        val defaults = Video()
        return Video(
            frames = from.getInt("frames").toUInt(),
            motion = from.optJSONArray("motion")?.let { Motion(it.getFloat(0), it.getFloat(1)) },
            remask = if (from.has("remask")) from.getFloat("remask") else defaults.remask,
            end = from.optJSONObject("end")?.let { pixels(name, it) },
        )
    }
}

/** A request from its fields as Rust names them; one that is unknown is an error. */
private fun parsed(from: JSONObject): Request {
    var request = Request()
    for (key in from.keySet()) {
        val kind = { from.getString(key).uppercase() }
        request = when (key) {
            "prompt" -> request.copy(prompt = from.getString(key))
            "negative_prompt" -> request.copy(negativePrompt = from.getString(key))
            "prompt_weighting" -> request.copy(promptWeighting = from.getBoolean(key))
            "guidance_scale" -> request.copy(guidanceScale = from.getFloat(key))
            "num_inference_steps" -> request.copy(numInferenceSteps = from.getInt(key).toUInt())
            "temperature" -> request.copy(temperature = temperature(from.get(key)))
            "height" -> request.copy(height = from.getInt(key).toUInt())
            "width" -> request.copy(width = from.getInt(key).toUInt())
            "num_images_per_prompt" ->
                request.copy(numImagesPerPrompt = from.getInt(key).toUInt())
            "seed" -> request.copy(seed = from.get(key).toString().toULong())
            "rng" -> request.copy(rng = RngKind.valueOf(kind()))
            "aesthetic_score" -> request.copy(aestheticScore = from.getFloat(key))
            "crop_coordinates" -> {
                val (left, top) = from.getJSONArray(key).map { (it as Int).toUInt() }
                request.copy(cropCoordinates = Corner(left, top))
            }
            "sampler" -> request.copy(sampler = Sampler.valueOf(kind()))
            "guidance_schedule" ->
                request.copy(guidanceSchedule = GuidanceSchedule.valueOf(kind()))
            "masking_schedule" -> request.copy(maskingSchedule = MaskingSchedule.valueOf(kind()))
            "strength" -> request.copy(strength = from.getDouble(key))
            "reference_strength" -> request.copy(referenceStrength = from.getBoolean(key))
            "tileable" -> request.copy(tileable = Tileable.valueOf(kind()))
            "variation" -> request.copy(variation = from.getDouble(key))
            "variation_of" -> request.copy(variationOf = from.getInt(key).toUInt())
            else -> error("unknown field of a request: $key")
        }
    }
    return request
}

private fun temperature(value: Any): Temperature = when (value) {
    is JSONArray -> Temperature.Range(value.getFloat(0), value.getFloat(1))
    else -> Temperature.Decaying((value as Number).toFloat())
}

internal fun <T> expect(expected: T, found: T) {
    check(expected == found) { "expected $expected, found $found" }
}

fun main(arguments: Array<String>) {
    val world = World(File(arguments[0]), File(arguments[1]))
    if (arguments.size > 2) {
        runBlocking { child(world, arguments.drop(3)) }
        return
    }
    val table = world.cases()
    var failed = 0
    val begin = System.nanoTime()
    println("\nrunning ${table.size} tests")
    for (case in table) {
        val name = case.getString("name")
        try {
            val kind = case.getString("kind")
            val run = kinds[kind] ?: error("unknown kind of case: $kind")
            runBlocking { run(world, case) }
            println("test $name ... ok")
        } catch (failure: Throwable) {
            failed += 1
            println("test $name ... FAILED")
            println(failure.stackTraceToString())
        }
    }
    val seconds = "%.2f".format((System.nanoTime() - begin) / 1e9)
    val verdict = if (failed == 0) "ok" else "FAILED"
    println(
        "\ntest result: $verdict. ${table.size - failed} passed; $failed failed; 0 ignored; " +
            "0 measured; 0 filtered out; finished in ${seconds}s",
    )
    exitProcess(if (failed == 0) 0 else 1)
}
