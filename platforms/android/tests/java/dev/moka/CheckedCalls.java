package dev.moka;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Makes many calls of native methods of all kinds, for Java's own checks; says how many at the end. */
public final class CheckedCalls {
  private static long calls;

  private CheckedCalls() {}

  public static void main(String[] arguments) throws IOException {
    int most = Integer.parseInt(arguments[0]);
    File folder = Files.createTempDirectory("moka").toFile();
    File file = Testing.small(folder);
    File saved = new File(folder, "saved");
    GenerateOptions three = new GenerateOptions().maxTokens(3).stopAtEnd(false).stopTexts("zz", "yy");
    SamplerOptions sampling = new SamplerOptions().seed(1).bias(5, 1).bias(6, -1);
    try (Model model = Model.open(file);
        Model listops = Model.open(Testing.LISTOPS);
        Session session = model.newSession();
        Sampler sampler = model.newSampler(sampling);
        TextStream stream = model.newTextStream();
        Chat chat = model.newChat(new ChatOptions().progress((done, total, again) -> true))) {
      for (int round = 0; calls < most; ++round) {
        session.reset();
        session.append("a" + Testing.EMOJI); // tokenize, position and append, as two
        session.append(1, 2, 3);
        for (int i = 0; i < 20; ++i) {
          stream.push(session.step(sampler));
          session.position();
        }
        stream.finish();
        model.detokenize(model.tokenize("some text", false));
        model.tokenBytes(round % 256);
        sampler.sample(session.logits());
        sampler.accept(1, 2);
        session.generate(three, sampler, text -> true);
        calls += 2 * 3 + 40 + 8;
        if (round % 8 == 0) rare(model, session, sampler, chat, saved, three, sampling);
        if (round % 64 == 0) {
          listops.classify("[MIN 4 7 ]");
          listops.snapshots();
          Model.open(file).close();
          calls += 4 + 5;
        }
      }
    }
    for (File each : folder.listFiles()) each.delete();
    folder.delete();
    System.out.println(calls + " calls");
  }

  private static void rare(
      Model model,
      Session session,
      Sampler sampler,
      Chat chat,
      File saved,
      GenerateOptions three,
      SamplerOptions sampling) {
    session.appendRows(Input.tokens(1, 2, 3));
    session.restore(session.save());
    session.saveFile(saved);
    session.restoreFile(saved);
    session.fork().close();
    sampler.restore(sampler.save());
    sampler.reset();
    model.read(Input.tokens(1, 2, 3), new ReadOptions().progress(share -> true));
    model.score("text");
    chat.append(Role.USER, "abc");
    chat.generate(three, sampling, text -> true);
    chat.regenerate(three, null, null);
    chat.path();
    chat.turns();
    chat.undo();
    chat.switchTo(Chat.START);
    chat.remove(chat.turns().get(0).id);
    model.openChat(chat.save(), new ChatOptions()).close();
    fails(() -> session.append(-1));
    fails(() -> session.restore(new byte[100]));
    fails(() -> session.restoreSnapshot("none"));
    fails(() -> model.embed(Input.text("a"), new ReadOptions()));
    fails(() -> Model.open(new File("no such file")));
    fails(
        () ->
            session.generate(
                three,
                sampler,
                text -> {
                  throw new ArithmeticException();
                }));
    calls += 40;
  }

  private static void fails(Runnable call) {
    try {
      call.run();
    } catch (MokaException | ArithmeticException expected) {
      return;
    }
    throw new AssertionError("nothing was thrown");
  }
}
