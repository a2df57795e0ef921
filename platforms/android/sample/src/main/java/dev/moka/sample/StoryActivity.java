package dev.moka.sample;

import android.app.Activity;
import android.os.Bundle;
import android.view.View;
import android.widget.EditText;
import android.widget.TextView;
import dev.moka.AndroidModels;
import java.io.File;

/** A story in turns: one's own words, and what the model writes behind them, as it comes. */
public final class StoryActivity extends Activity implements Story.Screen {
  private Story story;
  private TextView text;
  private EditText prompt;

  @Override
  protected void onCreate(Bundle state) {
    super.onCreate(state);
    setContentView(R.layout.story);
    text = findViewById(R.id.story);
    prompt = findViewById(R.id.prompt);
    story =
        new Story(
            options -> AndroidModels.openAsset(getAssets(), "stories.moka", options),
            new File(getFilesDir(), "story.chat"),
            this);
    findViewById(R.id.write).setOnClickListener(this::write);
    findViewById(R.id.stop).setOnClickListener(view -> story.stop());
    findViewById(R.id.undo).setOnClickListener(view -> story.undo());
  }

  private void write(View view) {
    story.write(prompt.getText().toString());
    prompt.setText("");
  }

  @Override
  protected void onStart() {
    super.onStart();
    story.open();
  }

  @Override
  protected void onStop() {
    story.save();
    super.onStop();
  }

  @Override
  protected void onDestroy() {
    story.close();
    super.onDestroy();
  }

  // Called by the story's thread.

  @Override
  public void show(String all) {
    runOnUiThread(() -> text.setText(all));
  }

  @Override
  public void add(String piece) {
    runOnUiThread(() -> text.append(piece));
  }
}
