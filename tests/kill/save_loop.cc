// Saves two sessions to one file, again and again, until it is killed.
//
//   moka_save_loop MODEL PATH [--states | --once]
//
// Says "ready" when the first is there. With --states, writes the two to PATH.a and PATH.b and ends, so
// that whoever kills the other one knows what it may find. With --once, it saves each once and ends.
// Errors go to stderr, and end with 1.
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

#include "moka/moka.h"

namespace {

int fail(const moka::Status& status) {
  std::fprintf(stderr, "%s\n", status.to_string().c_str());
  return 1;
}

moka::Result<moka::Session> read(const moka::Model& model, const char* text) {
  std::vector<moka::TokenId> ids;
  MOKA_RETURN_IF_ERROR(model.tokenizer().encode(text, &ids));
  MOKA_ASSIGN_OR_RETURN(moka::Session session, model.new_session());
  MOKA_RETURN_IF_ERROR(session.append(ids));
  return session;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: moka_save_loop MODEL PATH [--states | --once]\n");
    return 2;
  }
  moka::OpenOptions options;
  options.executor.threads = 1;
  const auto model = moka::Model::open(argv[1], options);
  if (!model.ok()) return fail(model.status());
  const auto a = read(model.value(), "Once upon a time");
  if (!a.ok()) return fail(a.status());
  const auto b = read(model.value(), "The sea was calm, and nobody saw the boat.");
  if (!b.ok()) return fail(b.status());
  const std::string path = argv[2];
  if (argc > 3 && std::strcmp(argv[3], "--states") == 0) {
    const moka::Status first = a.value().save_file(path + ".a");
    if (!first.ok()) return fail(first);
    const moka::Status second = b.value().save_file(path + ".b");
    return second.ok() ? 0 : fail(second);
  }
  for (bool said = false;; said = true) {
    for (const auto* session : {&a.value(), &b.value()}) {
      const moka::Status saved = session->save_file(path);
      if (!saved.ok()) return fail(saved);
    }
    if (argc > 3) return 0;
    if (!said) {
      std::puts("ready");
      std::fflush(stdout);
    }
  }
}
