#if canImport(Story)
  import Story
#endif
import SwiftUI

#if os(iOS)
  import UIKit
#endif

@main
struct StoryApp: App {
  @State private var story = Story(
    keptIn: URL.documentsDirectory.appending(path: "bedtime.chat"))
  @Environment(\.scenePhase) private var phase

  var body: some Scene {
    WindowGroup {
      StoryView(story: story)
        .task { await story.open(model) }
    }
    .onChange(of: phase) { _, phase in
      if phase == .background { save() }
    }
  }

  /// stories.moka in the app's bundle, or the file that the command line names.
  private var model: URL {
    Bundle.main.url(forResource: "stories", withExtension: "moka")
      ?? URL(filePath: CommandLine.arguments.dropFirst().first ?? "stories.moka")
  }

  /// Asks the system for the moment that this takes.
  private func save() {
    #if os(iOS)
      let application = UIApplication.shared
      let task = application.beginBackgroundTask()
      Task {
        await story.save()
        application.endBackgroundTask(task)
      }
    #else
      Task { await story.save() }
    #endif
  }
}
