// What cases have in common: the table, the folder, what is expected.
import Foundation
import PocketMuse

typealias JSON = [String: Any]

/// A case that does not come out as it should.
struct Failure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

func expect<T: Equatable>(_ expected: T, _ found: T) throws {
    guard expected == found else { throw Failure("expected \(expected), found \(found)") }
}

func check(_ holds: Bool, _ claim: String) throws {
    guard holds else { throw Failure("expected that \(claim)") }
}

/// The value, if there is one.
func some<T>(_ value: T?, _ what: String) throws -> T {
    guard let value else { throw Failure("expected \(what), found none") }
    return value
}

struct World: @unchecked Sendable {
    let table: URL
    let folder: URL
    private let expected: JSON

    init(table: URL, folder: URL) throws {
        self.table = table
        self.folder = folder
        let file = folder.appendingPathComponent("expected.json")
        expected = try json(Data(contentsOf: file))
    }

    var package: URL {
        get throws { folder.appendingPathComponent(try string(expected, "package")) }
    }

    var library: String {
        get throws { folder.appendingPathComponent(try string(expected, "library")).path }
    }

    /// Which ONNX Runtime it is.
    var build: String {
        get throws { try string(expected, "build") }
    }

    /// OpenVINO's plug-in; `nil` where there is none.
    var openVino: String? {
        (expected["openvino"] as? String).map { folder.appendingPathComponent($0).path }
    }

    /// What the package can do, by the names of Rust's fields.
    func capabilities() throws -> JSON {
        try some(expected["capabilities"] as? JSON, "capabilities")
    }

    /// The memory that the work of a case takes.
    func plan(_ from: JSON) throws -> UInt64 {
        let plans = try some(expected["plans"] as? JSON, "plans")
        return UInt64(try number(plans, string(from, "name")))
    }

    /// An archive of the package, or one that is refused.
    func archive(_ name: String) -> URL {
        folder.appendingPathComponent("\(name).pocketmuse")
    }

    /// The table.
    func cases() throws -> [JSON] {
        try some(json(Data(contentsOf: table))["cases"] as? [JSON], "a list of cases")
    }

    /// The request that stands in a case.
    func request(_ from: JSON) throws -> Request {
        try parsed(try some(from["request"] as? JSON, "a request"))
    }

    /// Checks that these are a case's images, byte for byte.
    func check(_ from: JSON, _ images: [GeneratedImage]) throws {
        let counts = try some(expected["images"] as? JSON, "images")
        try expect(number(counts, string(from, "name")), UInt32(images.count))
        for (index, image) in images.enumerated() { try check(from, index, image) }
    }

    /// Checks that this is one of a case's images, byte for byte.
    func check(_ from: JSON, _ index: Int, _ image: GeneratedImage) throws {
        let bytes = try file("\(string(from, "name")).\(index).expected")
        try expect(bytes.count, 4 * Int(image.width()) * Int(image.height()))
        guard try bytes == image.rgba() else {
            throw Failure("image \(index) differs from Rust's")
        }
    }

    /// The work that stands in a case.
    func work(_ from: JSON) throws -> Work {
        let name = try string(from, "name")
        let request = try request(from)
        switch try string(from, "work") {
        case "generate":
            return .generate(request: request)
        case "edit":
            let source = try some(from["source"] as? JSON, "a source")
            return .edit(request: request, source: try self.source(name, source))
        case "video":
            let video = try some(from["video"] as? JSON, "a video")
            return .video(request: request, video: try self.video(name, video))
        case let other:
            throw Failure("unknown work: \(other)")
        }
    }

    private func file(_ name: String) throws -> Data {
        try Data(contentsOf: folder.appendingPathComponent(name))
    }

    /// As many bytes as a case says, or those that were written for it.
    private func bytes(_ from: JSON, _ file: String) throws -> Data {
        if let count = from["bytes"] as? NSNumber { return Data(count: count.intValue) }
        return try self.file(file)
    }

    private func pixels(_ name: String, _ from: JSON) throws -> Pixels {
        let alphas: [String: Alpha] = [
            "straight": .straight, "premultiplied": .premultiplied, "ignored": .ignored,
        ]
        return Pixels(
            bytes: try bytes(from, "\(name).rgba"), width: try number(from, "width"),
            height: try number(from, "height"), stride: try number(from, "stride"),
            alpha: try some(alphas[try string(from, "alpha")], "alpha"))
    }

    private func source(_ name: String, _ from: JSON) throws -> Source {
        func four(_ key: String) -> [UInt32]? {
            (from[key] as? [NSNumber])?.map(\.uint32Value)
        }
        let mask = try (from["mask"] as? JSON).map {
            Mask(
                bytes: try bytes($0, "\(name).mask"), width: try number($0, "width"),
                height: try number($0, "height"), stride: try number($0, "stride"))
        }
        return Source(
            image: try pixels(name, from), mask: mask,
            area: four("area").map { Area(left: $0[0], top: $0[1], width: $0[2], height: $0[3]) },
            extend: four("extend").map {
                Sides(left: $0[0], top: $0[1], right: $0[2], bottom: $0[3])
            },
            paste: (from["paste"] as? NSNumber)?.boolValue ?? true)
    }

    private func video(_ name: String, _ from: JSON) throws -> Video {
        let motion = (from["motion"] as? [NSNumber])?.map(\.floatValue)
        return Video(
            frames: try number(from, "frames"),
            motion: motion.map { Motion(right: $0[0], down: $0[1]) },
            remask: (from["remask"] as? NSNumber)?.floatValue ?? Video().remask,
            end: try (from["end"] as? JSON).map { try pixels(name, $0) })
    }
}

func json(_ data: Data) throws -> JSON {
    try some(JSONSerialization.jsonObject(with: data) as? JSON, "an object")
}

func string(_ from: JSON, _ key: String) throws -> String {
    try some(from[key] as? String, key)
}

func number(_ from: JSON, _ key: String) throws -> UInt32 {
    try some(from[key] as? NSNumber, key).uint32Value
}

/// A request from its fields as Rust names them; one that is unknown is an error.
func parsed(_ from: JSON) throws -> Request {
    var left = from
    func text(_ key: String) -> String? { left.removeValue(forKey: key) as? String }
    func count(_ key: String) -> UInt32? { (left.removeValue(forKey: key) as? NSNumber)?.uint32Value }
    func real(_ key: String) -> Double? { (left.removeValue(forKey: key) as? NSNumber)?.doubleValue }
    func flag(_ key: String) -> Bool? { (left.removeValue(forKey: key) as? NSNumber)?.boolValue }
    func kind<T>(_ key: String, _ kinds: [String: T]) throws -> T? {
        try text(key).map { try some(kinds[$0], "a \(key)") }
    }
    let defaults = Request()
    let temperature: Temperature? =
        switch left.removeValue(forKey: "temperature") {
        case let range as [NSNumber]: .range(first: range[0].floatValue, last: range[1].floatValue)
        case let first as NSNumber: .decaying(first: first.floatValue)
        default: nil
        }
    let crop = (left.removeValue(forKey: "crop_coordinates") as? [NSNumber])?.map(\.uint32Value)
    let seed = (left.removeValue(forKey: "seed") as? NSNumber)?.uint64Value
    let request = Request(
        prompt: text("prompt") ?? defaults.prompt,
        negativePrompt: text("negative_prompt") ?? defaults.negativePrompt,
        promptWeighting: flag("prompt_weighting") ?? defaults.promptWeighting,
        guidanceScale: real("guidance_scale").map(Float.init),
        numInferenceSteps: count("num_inference_steps"),
        temperature: temperature,
        height: count("height"),
        width: count("width"),
        numImagesPerPrompt: count("num_images_per_prompt") ?? defaults.numImagesPerPrompt,
        seed: seed ?? defaults.seed,
        rng: try kind("rng", ["own": .own, "torch": .torch]),
        aestheticScore: real("aesthetic_score").map(Float.init) ?? defaults.aestheticScore,
        cropCoordinates: crop.map { Corner(left: $0[0], top: $0[1]) },
        sampler: try kind("sampler", ["confidence": .confidence, "halton": .halton]),
        guidanceSchedule: try kind(
            "guidance_schedule", ["constant": .constant, "linear": .linear, "cosine": .cosine, "late": .late]),
        maskingSchedule: try kind("masking_schedule", ["cosine": .cosine, "linear": .linear]),
        strength: real("strength"),
        referenceStrength: flag("reference_strength") ?? defaults.referenceStrength,
        tileable: try kind(
            "tileable", ["no": .no, "across": .across, "down": .down, "both": .both]),
        variation: real("variation"),
        variationOf: count("variation_of") ?? defaults.variationOf)
    guard left.isEmpty else { throw Failure("unknown fields of a request: \(left.keys)") }
    return request
}
