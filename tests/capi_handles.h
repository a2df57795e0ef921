// Handles of moka.h that free themselves, for tests and fuzz targets.
#ifndef MOKA_TESTS_CAPI_HANDLES_H_
#define MOKA_TESTS_CAPI_HANDLES_H_

#include <memory>

#include "moka.h"

namespace moka::test {

struct FreeHandle {
  void operator()(moka_model* handle) const { moka_model_free(handle); }
  void operator()(moka_executor* handle) const { moka_executor_free(handle); }
  void operator()(moka_session* handle) const { moka_session_free(handle); }
  void operator()(moka_sampler* handle) const { moka_sampler_free(handle); }
  void operator()(moka_text_stream* handle) const { moka_text_stream_free(handle); }
  void operator()(moka_chat* handle) const { moka_chat_free(handle); }
};
template <class T>
using Handle = std::unique_ptr<T, FreeHandle>;

}  // namespace moka::test

#endif  // MOKA_TESTS_CAPI_HANDLES_H_
