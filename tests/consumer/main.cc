// Continues a text by twenty tokens, always the likeliest: consumer MODEL TEXT
#include <cstdio>

#include "moka/moka.h"

static int fail(const moka::Status& status) {
  std::fprintf(stderr, "%s\n", status.to_string().c_str());
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 3) return fail({moka::StatusCode::kInvalidArgument, "usage: consumer MODEL TEXT"});
  moka::Result<moka::Model> model = moka::Model::open(argv[1]);
  if (!model.ok()) return fail(model.status());
  if (!model.value().has_tokenizer())
    return fail({moka::StatusCode::kUnsupported, "no text model"});
  const moka::Tokenizer& tokenizer = model.value().tokenizer();

  std::vector<moka::TokenId> prompt;
  moka::Status status = tokenizer.encode(argv[2], &prompt);
  if (!status.ok()) return fail(status);
  moka::Result<moka::Session> session = model.value().new_session();
  if (!session.ok()) return fail(session.status());
  status = session.value().append(prompt);
  if (!status.ok()) return fail(status);

  moka::SamplerOptions greedy = model.value().info().sampling;  // what its author recommends, but
  greedy.temperature = 0;
  auto sampler = moka::Sampler::create(greedy, model.value().info().vocab_size);
  if (!sampler.ok()) return fail(sampler.status());
  for (int i = 0; i < 20; ++i) {
    moka::Result<moka::TokenId> token = session.value().step(sampler.value());
    if (!token.ok()) return fail(token.status());
    std::printf("%s", std::string(tokenizer.piece(token.value())).c_str());
  }
  std::printf("\n");
  return 0;
}
