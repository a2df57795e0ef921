// What the runtime's dependencies ask of bionic's header of this name: nothing but that it is there. The
// level itself comes from the compiler's target.
#ifndef MOKA_PLATFORMS_ANDROID_TESTS_STAND_INS_NDK_ANDROID_API_LEVEL_H_
#define MOKA_PLATFORMS_ANDROID_TESTS_STAND_INS_NDK_ANDROID_API_LEVEL_H_
#endif  // MOKA_PLATFORMS_ANDROID_TESTS_STAND_INS_NDK_ANDROID_API_LEVEL_H_
