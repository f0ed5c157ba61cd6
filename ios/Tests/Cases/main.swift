// Runs the table of cases that Kotlin and Swift share, and prints a line for each, as cargo does:
//
//     Cases TABLE FOLDER                          all cases
//     Cases TABLE FOLDER child ARGUMENT...        what a case starts
//
// FOLDER is what the example `expected` of pocketmuse-mobile wrote.
import Foundation
import PocketMuse

/// Prints at once, whatever happens next.
func say(_ line: String) {
    FileHandle.standardOutput.write(Data((line + "\n").utf8))
}

let arguments = CommandLine.arguments
let world = try World(
    table: URL(fileURLWithPath: arguments[1]), folder: URL(fileURLWithPath: arguments[2]))
if arguments.count > 4 {
    try await child(world, Array(arguments[4...]))
    exit(0)
}
let table = try world.cases()
say("\nrunning \(table.count) tests")
let begin = Date()
var failed = 0
for from in table {
    let name = try string(from, "name")
    do {
        let kind = try string(from, "kind")
        try await some(kinds[kind], "a kind of case called \(kind)")(world, from)
        say("test \(name) ... ok")
    } catch {
        failed += 1
        say("test \(name) ... FAILED\n\(error)")
    }
}
let verdict = failed == 0 ? "ok" : "FAILED"
let seconds = String(format: "%.2f", Date().timeIntervalSince(begin))
say(
    "\ntest result: \(verdict). \(table.count - failed) passed; \(failed) failed; 0 ignored; "
        + "0 measured; 0 filtered out; finished in \(seconds)s")
exit(failed == 0 ? 0 : 1)
