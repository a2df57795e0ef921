// Models through moka.h: where they come from, what they tell, their text.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "moka/model.h"
#include "tests/capi_testing.h"
#include "tests/process.h"
#include "tests/task_models.h"
#include "tests/temp_folder.h"

namespace moka::test {
namespace {

std::string string_of(const ModelBytes& bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.bytes().data()), bytes.size());
}

// Opens the file, counts what it has after the position that opening leaves, and closes it.
struct File {
  explicit File(const std::string& path) : fd(::open(path.c_str(), O_RDONLY)) {}
  ~File() { ::close(fd); }
  int fd;
};

std::vector<float> logits_after(const moka_model* model, const std::string& text) {
  const Handle<moka_session> session = new_session(model);
  append(session.get(), tokens_of(text));
  return logits_of(session.get());
}

}  // namespace

TEST_CASE("capi: a model from a path, from memory and from a descriptor is the same") {
  const TempFolder folder;
  const CModel in_memory = open_test_model(byte_language_model().spec);
  const std::string bytes = string_of(in_memory.bytes);
  const std::vector<float> expected = logits_after(in_memory.get(), "some text");
  CHECK(expected.size() == 260);

  write_file(folder.file("a.moka"), bytes);
  moka_model* opened = nullptr;
  CAPI_OK(moka_model_open(folder.file("a.moka").c_str(), nullptr, &opened, &error));
  const Handle<moka_model> by_path(opened);
  CHECK(logits_after(by_path.get(), "some text") == expected);

  // In a package: at an offset that can be mapped, at one that can not, and alone in its file.
  for (const size_t offset : {size_t{4096}, size_t{64 * 3}, size_t{4}, size_t{0}}) {
    CAPTURE(offset);
    write_file(folder.file("package"), std::string(offset, 'x') + bytes + (offset ? "tail" : ""));
    const File file(folder.file("package"));
    CAPI_OK(
        moka_model_open_fd(file.fd, offset, offset ? bytes.size() : 0, nullptr, &opened, &error));
    const Handle<moka_model> model(opened);
    CHECK(::lseek(file.fd, 0, SEEK_CUR) == 0);  // open, and where it was
    CHECK(::unlink(folder.file("package").c_str()) == 0);
    CHECK(logits_after(model.get(), "some text") == expected);
  }
}

TEST_CASE("capi: models that cannot be opened") {
  const TempFolder folder;
  const CModel good = open_test_model(byte_language_model().spec);
  moka_model* model = good.get();
  const std::string missing = folder.file("none.moka");
  CAPI_FAILS(moka_model_open(missing.c_str(), nullptr, &model, &error), MOKA_NOT_FOUND,
             missing + ": cannot open: No such file or directory");
  CHECK(model == nullptr);
  CHECK(moka_model_open(missing.c_str(), nullptr, &model, nullptr) == MOKA_NOT_FOUND);
  CAPI_FAILS(moka_model_open(nullptr, nullptr, &model, &error), MOKA_INVALID_ARGUMENT,
             "path is NULL");
  CAPI_FAILS(moka_model_open(missing.c_str(), nullptr, nullptr, &error), MOKA_INVALID_ARGUMENT,
             "out is NULL");
  CAPI_FAILS(moka_model_open_memory(nullptr, 0, nullptr, &model, &error), MOKA_INVALID_ARGUMENT,
             "bytes is NULL");
  CAPI_FAILS(moka_model_open_memory(good.bytes.bytes().data() + 4, 100, nullptr, &model, &error),
             MOKA_INVALID_ARGUMENT,
             "model in memory: the bytes of a model must be aligned to 64 bytes in memory");
  CAPI_FAILS_WITH(moka_model_open_memory(good.bytes.bytes().data(), 100, nullptr, &model, &error),
                  MOKA_CORRUPT, "model in memory: has 100 bytes");

  moka_open_options options;
  moka_open_options_init(&options, sizeof options);
  const auto open = [&](moka_error* error) {
    return moka_model_open_memory(good.bytes.bytes().data(), good.bytes.size(), &options, &model,
                                  error);
  };
  options.kernels = "mmx";
  CAPI_FAILS_WITH(open(&error), MOKA_INVALID_ARGUMENT, "mmx");
  options.kernels = nullptr;
  options.threads = -1;
  CAPI_FAILS(open(&error), MOKA_INVALID_ARGUMENT, "threads is -1, must be 0 (automatic) to 256");
  options.threads = 0;
  options.check_data = 2;
  CAPI_FAILS(open(&error), MOKA_INVALID_ARGUMENT, "check_data is 2, must be 0 or 1");
  moka_model_free(nullptr);
}

TEST_CASE("capi: descriptors that hold no model") {
  const TempFolder folder;
  write_file(folder.file("a"), std::string(100, 'x'));
  const File file(folder.file("a"));
  moka_model* model = nullptr;
  const auto open = [&](int fd, uint64_t offset, uint64_t length, moka_error* error) {
    return moka_model_open_fd(fd, offset, length, nullptr, &model, error);
  };
  CAPI_FAILS(open(-1, 0, 0, &error), MOKA_INVALID_ARGUMENT,
             "model in a file: -1 is no open file descriptor");
  CAPI_FAILS(open(9999, 0, 0, &error), MOKA_INVALID_ARGUMENT,
             "model in a file: 9999 is no open file descriptor");
  CAPI_FAILS(open(file.fd, 64, 37, &error), MOKA_OUT_OF_RANGE,
             "model in a file: offset 64 and length 37 reach beyond the file's 100 bytes");
  CAPI_FAILS(open(file.fd, 101, 0, &error), MOKA_OUT_OF_RANGE,
             "model in a file: offset 101 and length 0 reach beyond the file's 100 bytes");
  CAPI_FAILS(open(file.fd, UINT64_MAX, UINT64_MAX, &error), MOKA_OUT_OF_RANGE,
             "model in a file: offset 18446744073709551615 and length 18446744073709551615 reach "
             "beyond the file's 100 bytes");
  CAPI_FAILS_WITH(open(file.fd, 0, 0, &error), MOKA_CORRUPT, "model in a file: not a Moka model");
  CAPI_FAILS_WITH(open(file.fd, 3, 20, &error), MOKA_CORRUPT, "model in a file: not a Moka model");
  CAPI_FAILS_WITH(open(file.fd, 100, 0, &error), MOKA_CORRUPT, "model in a file: ");
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  CAPI_FAILS(open(ends[0], 0, 0, &error), MOKA_INVALID_ARGUMENT,
             "model in a file: is a device or a pipe; a model is a regular file, because it is "
             "mapped");
  ::close(ends[0]);
  ::close(ends[1]);
  const File directory(folder.path());
  CAPI_FAILS_WITH(open(directory.fd, 0, 0, &error), MOKA_INVALID_ARGUMENT, "is a folder");
}

TEST_CASE("capi: the data are checked when that is asked for") {
  CModel model = open_test_model(byte_language_model().spec);
  moka_open_options options;
  moka_open_options_init(&options, sizeof options);
  options.check_data = 1;
  std::vector<double> shares;
  options.progress = [](void* user, double share) -> int32_t {
    static_cast<std::vector<double>*>(user)->push_back(share);
    return 0;
  };
  options.progress_user = &shares;
  moka_model* opened = nullptr;
  const auto open = [&](moka_error* error) {
    return moka_model_open_memory(model.bytes.data(), model.bytes.size(), &options, &opened, error);
  };
  CAPI_OK(open(&error));
  moka_model_free(opened);
  REQUIRE(!shares.empty());
  CHECK(shares.back() == 1.0);

  options.progress = [](void*, double) -> int32_t { return 1; };
  CAPI_FAILS_WITH(open(&error), MOKA_CANCELLED, "model in memory: cancelled while its data");
  options.progress = nullptr;

  const size_t at = data_start(model.bytes) + 3;
  model.bytes.data()[at] ^= 1;
  CAPI_FAILS_WITH(open(&error), MOKA_CORRUPT, "the section 'weights' is damaged");
  options.check_data = 0;  // the header alone says nothing of it
  CAPI_OK(open(&error));
  moka_model_free(opened);
  model.bytes.data()[at] ^= 1;
}

TEST_CASE("capi: what a model tells of itself") {
  const CModel model = open_test_model(byte_language_model(64).spec);
  moka_model_info info;
  info.struct_size = sizeof info;
  CAPI_OK(moka_model_get_info(model.get(), &info, &error));
  const Result<Model> same = Model::open_memory(model.bytes.bytes());
  REQUIRE(same.ok());
  const ModelInfo& expected = same.value().info();
  CHECK(info.input == MOKA_INPUT_TOKENS);
  CHECK(info.output == MOKA_OUTPUT_LANGUAGE);
  CHECK(info.causal == 1);
  CHECK(info.reads_memory == 0);
  CHECK(info.has_tokenizer == 1);
  CHECK(info.width == expected.width);
  CHECK(info.layers == expected.layers);
  CHECK(info.vocab_size == 260);
  CHECK(info.outputs == 260);
  CHECK(info.classes == 0);
  CHECK(info.forecast_steps == 0);
  CHECK(info.threads == 1);
  CHECK(info.padding == -1);
  CHECK(info.begin_token == same.value().tokenizer().bos_id());
  CHECK(info.end_token == same.value().tokenizer().eos_id());
  CHECK(info.parameters == expected.parameters);
  CHECK(info.weight_bytes == expected.weight_bytes);
  CHECK(info.state_bytes == expected.state_bytes);
  CHECK(info.position_limit == 64);
  CHECK(info.fingerprint == expected.fingerprint);
  CHECK(info.name == expected.name);
  CHECK(info.architecture == expected.architecture);
  CHECK(info.kernels == std::string(expected.isa));
  CHECK(moka_model_class_name(model.get(), 0) == nullptr);
  CHECK(moka_model_class_name(nullptr, 0) == nullptr);
  CAPI_FAILS(moka_model_get_info(nullptr, &info, &error), MOKA_INVALID_ARGUMENT, "model is NULL");
}

TEST_CASE("capi: text to tokens and back") {
  const CModel model = open_test_model(byte_language_model().spec);
  const std::string text = "a\xe2\x82\xac\n";
  std::vector<moka_token> tokens(8, -7);
  size_t needed = 0;
  const auto tokenize = [&](size_t capacity, moka_error* error) {
    return moka_model_tokenize(model.get(), text.data(), text.size(), 1, tokens.data(), capacity,
                               &needed, error);
  };
  CAPI_FAILS(tokenize(4, &error), MOKA_OUT_OF_RANGE,
             "tokens has room for 4 elements, needed are 5");
  CHECK(needed == 5);
  CHECK(tokens == std::vector<moka_token>(8, -7));
  CAPI_OK(tokenize(8, &error));
  CHECK(std::vector<moka_token>(tokens.begin(), tokens.begin() + 5) == tokens_of(text));
  CHECK(tokens[5] == -7);
  CAPI_OK(moka_model_tokenize(model.get(), nullptr, 0, 0, nullptr, 0, &needed, &error));
  CHECK(needed == 0);
  CAPI_FAILS(moka_model_tokenize(model.get(), nullptr, 2, 0, nullptr, 0, &needed, &error),
             MOKA_INVALID_ARGUMENT, "text is NULL, but has 2 elements");
  CAPI_FAILS(moka_model_tokenize(model.get(), "a", 1, 3, nullptr, 0, &needed, &error),
             MOKA_INVALID_ARGUMENT, "parse_special is 3, must be 0 or 1");

  std::string decoded(16, '#');
  CAPI_OK(
      moka_model_detokenize(model.get(), tokens.data(), 5, decoded.data(), 16, &needed, &error));
  CHECK(needed == 5);
  CHECK(decoded == text + "###########");
  const moka_token wrong = 260;
  CHECK(moka_model_detokenize(model.get(), &wrong, 1, nullptr, 0, &needed, nullptr) ==
        MOKA_OUT_OF_RANGE);

  const char* piece = nullptr;
  size_t size = 0;
  CAPI_OK(moka_model_token_text(model.get(), 'q', &piece, &size, &error));
  CHECK(std::string(piece, size) == "q");
  for (const moka_token token : {-1, 260}) {
    CAPI_FAILS(moka_model_token_text(model.get(), token, &piece, &size, &error), MOKA_OUT_OF_RANGE,
               "token is " + std::to_string(token) + ", the tokenizer has 0 to 259");
  }
}

TEST_CASE("capi: streams give whole characters") {
  CModel model = open_test_model(byte_language_model().spec);
  moka_text_stream* created = nullptr;
  CAPI_OK(moka_text_stream_create(model.get(), &created, &error));
  const Handle<moka_text_stream> stream(created);
  model.handle.reset();  // the stream keeps what it needs
  const char* text = nullptr;
  size_t size = 9;
  std::string all;
  for (const moka_token token : tokens_of("x\xe2\x82\xac\xe2\x82")) {
    CAPI_OK(moka_text_stream_push(stream.get(), token, &text, &size, &error));
    all += std::string(text, size) + "|";
  }
  CHECK(all == "x|||\xe2\x82\xac|||");
  CAPI_OK(moka_text_stream_finish(stream.get(), &text, &size, &error));
  CHECK(std::string(text, size) == "\xef\xbf\xbd");
  CAPI_OK(moka_text_stream_finish(stream.get(), &text, &size, &error));
  CHECK(size == 0);
  CAPI_FAILS(moka_text_stream_push(stream.get(), 1000, &text, &size, &error), MOKA_OUT_OF_RANGE,
             "token is 1000, the tokenizer has 0 to 259");
  CAPI_FAILS(moka_text_stream_push(nullptr, 1, &text, &size, &error), MOKA_INVALID_ARGUMENT,
             "stream is NULL");

  const CModel numbers = open_test_model(forecast_model(1, 2, {}).spec);
  CAPI_FAILS(moka_text_stream_create(numbers.get(), &created, &error), MOKA_UNSUPPORTED,
             "the model has no tokenizer, so it reads no text");
  CHECK(created == nullptr);
  CHECK(moka_model_tokenize(numbers.get(), "a", 1, 0, nullptr, 0, &size, nullptr) ==
        MOKA_UNSUPPORTED);
}

}  // namespace moka::test
