// The kinds of cases: what each does with the library.
package org.pocketmuse

import org.json.JSONObject

internal typealias Kind = suspend (World, JSONObject) -> Unit

/** By the name that the table has for them. */
internal val kinds: Map<String, Kind> = mapOf(
    "open" to ::open,
    "pixels" to ::pixels,
)

internal fun World.generator(options: Options = Options()): Generator =
    Generator.open(packageFolder, options.copy(library = library))

private suspend fun open(world: World, case: JSONObject) {
    world.generator().use { generator ->
        check(generator.plan(Request()) > 1_000_000)
    }
}

private suspend fun pixels(world: World, case: JSONObject) {
    val work = world.work(case)
    world.generator().use { generator ->
        val images = mutableListOf<GeneratedImage>()
        generator.events(work).collect { event ->
            when (event) {
                is Event.Frame -> images.add(event.image.also { expect(images.size, event.frame) })
                is Event.Finished -> images.addAll(event.images)
                else -> {}
            }
        }
        world.check(case, images)
    }
}

/** What a case starts in a process of its own. */
internal suspend fun child(world: World, arguments: List<String>) {
    error("unknown child: $arguments")
}
