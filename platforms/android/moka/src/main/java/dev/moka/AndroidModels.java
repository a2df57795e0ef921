package dev.moka;

import android.content.res.AssetFileDescriptor;
import android.content.res.AssetManager;
import java.io.IOException;

/** The one class of this package that knows Android. */
public final class AndroidModels {
  private AndroidModels() {}

  /**
   * Opens the model that a descriptor gives: a part of a package, or a document of another app. It stays
   * open, and may be closed after the call. The model is mapped where it begins at a multiple of 64 bytes,
   * else read into memory.
   */
  public static Model open(AssetFileDescriptor descriptor, OpenOptions options) {
    long length = descriptor.getLength();
    return Model.open(
        descriptor.getParcelFileDescriptor().getFd(),
        descriptor.getStartOffset(),
        length == AssetFileDescriptor.UNKNOWN_LENGTH ? 0 : length,
        options);
  }

  /**
   * Opens a model of the app's assets. It must be stored there as it is, which the app's build file says
   * with {@code androidResources { noCompress 'moka' }}.
   *
   * @throws IOException there is no such asset, or it is compressed
   */
  public static Model openAsset(AssetManager assets, String name, OpenOptions options)
      throws IOException {
    AssetFileDescriptor descriptor = assets.openFd(name);
    try {
      return open(descriptor, options);
    } finally {
      descriptor.close();
    }
  }
}
