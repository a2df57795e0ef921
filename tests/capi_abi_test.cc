// What binary programs rely on: names, codes, layouts, structs that grow, errors.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "moka/version.h"
#include "platforms/capi/border.h"
#include "tests/capi_testing.h"
#include "tests/process.h"

extern "C" const char* moka_test_layout(size_t index, size_t* offset, size_t* size);

namespace moka::test {
namespace {

namespace fs = std::filesystem;

const std::string kRoot = MOKA_SOURCE_DIR;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> listed_symbols() {
  return lines_of(read_file(kRoot + "/platforms/capi/moka.symbols"));
}

}  // namespace

TEST_CASE("capi: structs are laid out as they were published") {
  if (sizeof(void*) != 8) {
    MESSAGE("skipped: the table is of 64-bit systems");
    return;
  }
  std::vector<std::string> rows;
  size_t offset = 0, size = 0;
  while (const char* name = moka_test_layout(rows.size(), &offset, &size)) {
    rows.push_back(std::string(name) + " " + std::to_string(offset) + " " + std::to_string(size));
  }
  const std::vector<std::string> published =
      lines_of(read_file(kRoot + "/tests/data/capi/layout64.txt"));
  REQUIRE(rows.size() == published.size());
  for (size_t i = 0; i < rows.size(); ++i) CHECK(rows[i] == published[i]);
  CHECK(rows.size() > 100);
}

TEST_CASE("capi: the list of exported names is that of the headers") {
  std::set<std::string> declared;
  for (const char* name : {"moka.h", "moka_session.h", "moka_tasks.h", "moka_chat.h"}) {
    const std::string text = read_file(kRoot + "/platforms/capi/include/" + name);
    // The name stands before the first parenthesis of a declaration.
    const std::string mark = "MOKA_API ";
    for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + 1)) {
      const size_t open = text.find_first_of("(;", at);
      if (open == std::string::npos || text[open] != '(') continue;
      const size_t name_end = text.find_last_not_of(" *", open - 1) + 1;
      const size_t before = text.find_last_of(" *\n", name_end - 1) + 1;
      const std::string found = text.substr(before, name_end - before);
      if (found.rfind("moka_", 0) == 0) declared.insert(found);
    }
  }
  const std::vector<std::string> listed = listed_symbols();
  CHECK(std::is_sorted(listed.begin(), listed.end()));
  CHECK(std::vector<std::string>(declared.begin(), declared.end()) == listed);
  CHECK(listed.size() > 80);
}

TEST_CASE("capi: the shared library exports the list and nothing else") {
  const fs::path library = fs::path(MOKA_COMMAND).parent_path() / "libmoka.so";
  if (!fs::exists(library)) {
    MESSAGE("skipped: there is no " << library.string());
    return;
  }
  const ProcessResult symbols = run_process(
      {"/usr/bin/env", "nm", "--dynamic", "--defined-only", "--extern-only", library.string()});
  if (symbols.exit_code != 0) {
    MESSAGE("skipped: nm is not here or cannot read " << library.string() << ": " << symbols.err);
    return;
  }
  std::set<std::string> exported;
  for (const std::string& line : lines_of(symbols.out)) {
    const size_t name = line.rfind(' ');
    REQUIRE(name != std::string::npos);
    std::string symbol = line.substr(name + 1);
    const size_t version = symbol.find('@');  // moka_version@@MOKA_1
    if (line[name - 1] == 'A') continue;      // the name of the version itself
    if (version != std::string::npos) {
      CHECK(symbol.substr(version) == "@@MOKA_" + std::to_string(MOKA_ABI_VERSION));
      symbol.resize(version);
    }
    exported.insert(symbol);
  }
  CHECK(std::vector<std::string>(exported.begin(), exported.end()) == listed_symbols());
  // The link that programs are built with leads to the name that they look for later.
  const fs::path so_name = library.string() + "." + std::to_string(MOKA_ABI_VERSION);
  CHECK(fs::exists(so_name));
  CHECK(fs::read_symlink(library) == so_name.filename());
}

TEST_CASE("capi: versions and names of codes") {
  CHECK(std::string(moka_version()) == MOKA_VERSION_STRING);
  CHECK(moka_abi_version() == MOKA_ABI_VERSION);
  CHECK(moka_format_version() == kFormatVersion);
  const char* kNames[] = {
      "ok",        "invalid_argument", "not_found",     "io",           "corrupt",
      "version",   "unsupported",      "out_of_memory", "out_of_range", "failed_precondition",
      "cancelled", "internal"};
  for (moka_status code = MOKA_OK; code <= MOKA_INTERNAL; ++code) {
    CHECK(std::string(moka_status_name(code)) == kNames[code]);
  }
  CHECK(std::string(moka_status_name(-1)) == "unknown");
  CHECK(std::string(moka_status_name(MOKA_INTERNAL + 1)) == "unknown");
}

TEST_CASE("capi: options begin with defaults, in structs of every size") {
  moka_generate_options options;
  std::memset(&options, 0x55, sizeof options);
  moka_generate_options_init(&options, sizeof options);
  CHECK(options.struct_size == sizeof options);
  CHECK(options.stop_at_end == 1);
  CHECK(options.max_tokens == 512);
  CHECK(options.max_ms == 0);
  CHECK(options.on_text == nullptr);

  // An older caller's struct, without all that follows max_tokens, is written no further.
  std::memset(&options, 0x55, sizeof options);
  moka_generate_options_init(&options, offsetof(moka_generate_options, max_ms));
  CHECK(options.struct_size == offsetof(moka_generate_options, max_ms));
  CHECK(options.max_tokens == 512);
  CHECK(options.max_ms == 0x5555555555555555u);

  // A newer caller's has zeros where this library ends.
  struct Newer {
    moka_generate_options known;
    uint64_t more[2];
  } newer;
  std::memset(&newer, 0x55, sizeof newer);
  moka_generate_options_init(&newer.known, sizeof newer);
  CHECK(newer.known.struct_size == sizeof newer);
  CHECK(newer.known.max_tokens == 512);
  CHECK(newer.more[0] == 0);
  CHECK(newer.more[1] == 0);

  moka_generate_options_init(nullptr, sizeof options);  // no more than nothing
  moka_open_options open;
  moka_open_options_init(&open, sizeof open);
  CHECK(open.chunk == 128);
  CHECK(open.threads == 0);
  CHECK(open.check_data == 0);
  CHECK(open.kernels == nullptr);
  moka_executor_options executor;
  moka_executor_options_init(&executor, sizeof executor);
  CHECK(executor.chunk == 128);
  moka_chat_options chat;
  moka_chat_options_init(&chat, sizeof chat);
  CHECK(chat.saved_states == 2);
  CHECK(chat.state_budget_bytes == uint64_t{64} << 20);
  moka_read_options read;
  moka_read_options_init(&read, sizeof read);
  CHECK(read.struct_size == sizeof read);
  CHECK(read.executor == nullptr);
  moka_sampler_options sampler;
  moka_sampler_options_init(&sampler, sizeof sampler, nullptr);
  CHECK(sampler.temperature == 0.8f);
  CHECK(sampler.repeat_window == 64);
  CHECK(sampler.bias_count == 0);
}

TEST_CASE("capi: options of older and newer callers") {
  const CModel model = open_test_model(byte_language_model().spec);
  moka_executor* executor = nullptr;
  struct Newer {
    moka_executor_options known;
    uint32_t more[2];
  } newer;
  const auto create = [&](moka_error* error) {
    moka_executor_free(executor);
    return moka_executor_create(model.get(), &newer.known, &executor, error);
  };
  // Newer, with nothing set that is not known.
  moka_executor_options_init(&newer.known, sizeof newer);
  newer.known.threads = 2;
  CAPI_OK(create(&error));
  CHECK(moka_executor_threads(executor) == 2);

  newer.more[1] = 256;
  CAPI_FAILS(create(&error), MOKA_UNSUPPORTED,
             "moka_executor_options sets a field at byte 17, which this version of Moka "
             "(" MOKA_VERSION_STRING ") does not know; its struct has 12 bytes, the caller's 20");
  CHECK(executor == nullptr);

  // Older: what lies behind its end is not looked at, and the default holds.
  newer.known.struct_size = offsetof(moka_executor_options, chunk);
  newer.known.chunk = 0x55555555;
  CAPI_OK(create(&error));
  newer.known.struct_size = sizeof newer.known;
  CAPI_FAILS(create(&error), MOKA_INVALID_ARGUMENT, "chunk is 1431655765, must be 1 to 1024");

  for (const uint32_t size : {0u, 4u, 11u, 13u, 4100u, 0x55555555u}) {
    newer.known.struct_size = size;
    CAPI_FAILS(create(&error), MOKA_INVALID_ARGUMENT,
               "moka_executor_options.struct_size is " + std::to_string(size) +
                   ", which is no size of this struct; set it with _init()");
  }
}

TEST_CASE("capi: the size of a struct of options ends between its fields") {
  const CModel model = open_test_model(byte_language_model().spec);
  const moka_logit_bias bias = {3, 1.0f};
  moka_sampler_options options;
  moka_sampler_options_init(&options, sizeof options, model.get());
  options.bias = &bias, options.bias_count = 1;
  options.struct_size = offsetof(moka_sampler_options, bias) + 4;  // half of the pointer
  moka_sampler* sampler = nullptr;
  CAPI_FAILS(moka_sampler_create(model.get(), &options, &sampler, &error), MOKA_INVALID_ARGUMENT,
             "moka_sampler_options.struct_size is " + std::to_string(options.struct_size) +
                 ", which is no size of this struct; set it with _init()");
  CHECK(sampler == nullptr);
}

TEST_CASE("capi: structs that are filled in, of older and newer callers") {
  const CModel model = open_test_model(byte_language_model().spec);
  struct Newer {
    moka_model_info known;
    uint64_t more;
  } newer;
  std::memset(&newer, 0x55, sizeof newer);
  newer.known.struct_size = sizeof newer;
  CAPI_OK(moka_model_get_info(model.get(), &newer.known, &error));
  CHECK(newer.known.struct_size == sizeof newer);
  CHECK(newer.known.vocab_size == 260);
  CHECK(newer.more == 0);

  std::memset(&newer, 0x55, sizeof newer);
  newer.known.struct_size = offsetof(moka_model_info, width);
  CAPI_OK(moka_model_get_info(model.get(), &newer.known, &error));
  CHECK(newer.known.has_tokenizer == 1);
  CHECK(newer.known.width == 0x55555555);

  newer.known.struct_size = 3;
  CAPI_FAILS(moka_model_get_info(model.get(), &newer.known, &error), MOKA_INVALID_ARGUMENT,
             "moka_model_info.struct_size is 3, which is no size of this struct; set it with "
             "sizeof");
  CAPI_FAILS(moka_model_get_info(model.get(), nullptr, &error), MOKA_INVALID_ARGUMENT,
             "moka_model_info is NULL");
}

TEST_CASE("capi: messages are cut between characters") {
  moka_error error;
  const size_t room = sizeof error.message - 1;
  CHECK(capi::report(StatusCode::kIo, std::string(room, 'a'), &error) == MOKA_IO);
  CHECK(error.message == std::string(room, 'a'));
  capi::report(StatusCode::kIo, std::string(room + 1, 'a'), &error);
  CHECK(error.message == std::string(room - 3, 'a') + "...");
  // The third byte of a character would be the last one: the whole of it goes.
  std::string text(room - 5, 'a');
  text += "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac";
  capi::report(StatusCode::kIo, text, &error);
  CHECK(error.message == std::string(room - 5, 'a') + "...");
  CHECK(capi::report(StatusCode::kIo, text, nullptr) == MOKA_IO);
}

TEST_CASE("capi: nothing that is thrown gets out") {
  moka_error error;
  const auto call = [&error](auto thrown) {
    return capi::border(&error, [&]() -> Status { throw thrown; });
  };
  CHECK(call(std::bad_alloc()) == MOKA_OUT_OF_MEMORY);
  CHECK(std::string(error.message) == "no memory for what the call needs");
  CHECK(call(std::runtime_error("a defect")) == MOKA_INTERNAL);
  CHECK(std::string(error.message) == "a defect");
  CHECK(call(7) == MOKA_INTERNAL);
  CHECK(std::string(error.message) == "something was thrown that is no std::exception");
}

TEST_CASE("capi: buffers answer with the size that is needed") {
  const std::vector<int> items = {1, 2, 3};
  std::vector<int> buffer(4, 9);
  size_t needed = 0;
  const auto give = [&](int* out, size_t capacity, size_t* count) {
    return capi::give(Span<const int>(items), out, capacity, count, "numbers");
  };
  CHECK(give(nullptr, 0, &needed).ok());
  CHECK(needed == 3);
  needed = 0;
  const Status small = give(buffer.data(), 2, &needed);
  CHECK(small.code() == StatusCode::kOutOfRange);
  CHECK(small.message() == "numbers has room for 2 elements, needed are 3");
  CHECK(needed == 3);
  CHECK(buffer == std::vector<int>(4, 9));
  CHECK(give(buffer.data(), 3, nullptr).ok());
  CHECK(buffer == std::vector<int>{1, 2, 3, 9});
  CHECK(give(nullptr, 3, &needed).message() == "numbers is NULL, but its capacity is 3");
  CHECK(give(nullptr, 0, nullptr).message() == "numbers and needed are NULL, one is needed");
  const auto span = capi::span_of(items.data(), std::numeric_limits<size_t>::max(), "numbers");
  CHECK(span.status().code() == StatusCode::kOutOfRange);
  CHECK(capi::span_of<int>(nullptr, 0, "numbers").ok());
  CHECK(capi::span_of<int>(nullptr, 2, "numbers").status().message() ==
        "numbers is NULL, but has 2 elements");
}

}  // namespace moka::test
