//! What a model that nothing is known of is measured with.

/// Prompts of what people ask for: people, animals, rooms, streets, landscapes, food, things,
/// abstract images, text, dark scenes and bright ones, in many styles.
pub const GENERAL: [&str; 36] = [
    // People
    "a portrait of an old fisherman with a grey beard, soft window light, photograph",
    "two children run across a beach, bright summer day",
    "a woman in a red dress dances on a stage, spotlight, dark background",
    "a crowd at a football match, seen from above",
    "a close-up of a face with freckles and green eyes",
    "an astronaut rides a horse on the moon, digital art",
    // Animals
    "a black cat sleeps on a white blanket",
    "a macro photograph of a bee on a yellow flower",
    "a herd of elephants at a waterhole at dawn",
    "a colourful parrot in a green jungle",
    "a dog with a stick in its mouth jumps into a lake",
    "a school of silver fish in deep blue water",
    // Rooms
    "a cosy living room with a fireplace, a sofa and many books",
    "a modern white kitchen, wide angle, bright daylight",
    "an empty cellar, one bare light bulb, dark shadows",
    // Streets and buildings
    "a busy street in a big city at night, neon signs, wet asphalt",
    "a narrow lane between old stone houses, morning fog",
    "a glass skyscraper against a cloudless sky, seen from below",
    "an old steam train crosses a viaduct, black and white photograph",
    // Landscapes
    "a mountain lake in autumn, reflections of yellow trees",
    "a desert with sand dunes under a starry sky, long exposure",
    "a storm over the sea, high waves, lightning",
    "a snow-covered forest in the fog, very bright, almost white",
    "a field of lavender at sunset, impressionist oil painting",
    // Food and things
    "a plate of pasta with tomatoes and basil, top view",
    "a chocolate cake with strawberries on a wooden table",
    "a glass of orange juice, backlit, water drops",
    "a vintage red bicycle leans on a brick wall",
    "a heap of old brass keys and gears, macro, shallow depth of field",
    // Abstract images, patterns and text
    "an abstract painting of red, blue and yellow rectangles",
    "swirling smoke in purple and turquoise on black",
    "a seamless pattern of small blue flowers on white",
    "a wooden sign with the word OPEN in white letters",
    // Styles
    "a dragon above a castle, detailed fantasy illustration",
    "a robot waters a plant, flat vector art, pastel colours",
    "a fishing village, woodblock print",
];
