package dev.moka;

/** Who wrote a turn. */
public enum Role {
  SYSTEM,
  USER,
  MODEL
}
