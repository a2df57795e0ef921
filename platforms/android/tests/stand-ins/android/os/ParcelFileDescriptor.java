package android.os;

import java.io.Closeable;
import java.io.IOException;

/** The part of Android's class that AndroidModels uses; tests say what it holds. */
public class ParcelFileDescriptor implements Closeable {
  public int getFd() {
    return -1;
  }

  @Override
  public void close() throws IOException {}
}
