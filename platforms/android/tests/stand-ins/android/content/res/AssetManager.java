package android.content.res;

import java.io.IOException;

/** The part of Android's class that AndroidModels uses; tests say what it opens. */
public class AssetManager {
  public AssetFileDescriptor openFd(String name) throws IOException {
    throw new IOException(name);
  }
}
