// swift-tools-version: 6.0
// Moka for Swift. Sources/CMoka is moka.h with a module map, for a library that is installed
// (pkg-config's moka-c); CMoka.xcframework is the same module for Apple's systems, made by
// xcframework.sh.
import PackageDescription

#if os(macOS)
  // MOKA_SYSTEM_LIBRARY=1: on a Mac too, the library that is installed.
  let installed = Context.environment["MOKA_SYSTEM_LIBRARY"] != nil
  let apps: [Target] = [
    .executableTarget(name: "StoryApp", dependencies: ["Story"], path: "Example/StoryApp")
  ]
#else
  let installed = true
  let apps: [Target] = []
#endif

let library: Target =
  installed
  ? .systemLibrary(name: "CMoka", pkgConfig: "moka-c")
  : .binaryTarget(name: "CMoka", path: "CMoka.xcframework")

let package = Package(
  name: "Moka",
  platforms: [.macOS(.v14), .iOS(.v17)],
  products: [.library(name: "Moka", targets: ["Moka"])],
  targets: [
    library,
    .target(name: "Moka", dependencies: ["CMoka"]),
    .target(name: "Story", dependencies: ["Moka"], path: "Example/Story"),
    .testTarget(name: "MokaTests", dependencies: ["Moka", "Story", "CMoka"]),
  ] + apps,
  swiftLanguageModes: [.v6]
)
