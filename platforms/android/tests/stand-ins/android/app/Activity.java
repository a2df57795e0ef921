package android.app;

import android.content.res.AssetManager;
import android.os.Bundle;
import android.view.View;
import java.io.File;

/** The part of Android's class that the sample uses, to compile it without Android. */
public class Activity {
  protected void onCreate(Bundle state) {}

  protected void onStart() {}

  protected void onStop() {}

  protected void onDestroy() {}

  public void setContentView(int layout) {}

  public <T extends View> T findViewById(int id) {
    return null;
  }

  public AssetManager getAssets() {
    return null;
  }

  public File getFilesDir() {
    return null;
  }

  public final void runOnUiThread(Runnable action) {}
}
