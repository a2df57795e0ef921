import Moka
#if canImport(Story)
  import Story
#endif
import SwiftUI

/// The one screen: the story as it grows, a line to write on, and buttons.
struct StoryView: View {
  @Bindable var story: Story
  @State private var text = ""

  var body: some View {
    VStack(spacing: 12) {
      ScrollView {
        VStack(alignment: .leading, spacing: 8) {
          ForEach(story.turns) { turn in
            Text(turn.text).foregroundStyle(turn.role == .user ? .secondary : .primary)
          }
          Text(story.unfinished)
        }
        .frame(maxWidth: .infinity, alignment: .leading)
      }
      .defaultScrollAnchor(.bottom)
      if let problem = story.problem {
        Text(problem).font(.footnote).foregroundStyle(.red)
          .onTapGesture { story.problem = nil }
      }
      controls
    }
    .padding()
  }

  @ViewBuilder private var controls: some View {
    switch story.state {
    case .opening:
      ProgressView()
    case .failed(let why):
      Text(why).foregroundStyle(.red)
    case .writing:
      Button("Stop", systemImage: "stop.fill") { Task { await story.stop() } }
    case .ready:
      HStack {
        TextField("Once upon a time", text: $text).onSubmit(write)
        Button("Undo", systemImage: "arrow.uturn.backward") { Task { await story.undo() } }
          .disabled(story.turns.isEmpty)
        Button("Write", systemImage: "paperplane.fill", action: write)
      }
      .labelStyle(.iconOnly)
    }
  }

  private func write() {
    story.write(text.isEmpty ? "Once upon a time" : text)
    text = ""
  }
}
