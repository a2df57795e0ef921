// How a chat lies in a file. Little-endian, without padding; "text" is a u32 length and its bytes.
//
//   head   "MOKACHAT"  u32 version  u64 bytes of the head, its checksum included
//          u64 fingerprint of the model  text name of the model  text template id
//          version 2: text name of the prefix snapshot  u64 snapshot_check() of its tokens
//          f32 temperature  u32 top_k  f32 top_p  f32 min_p  f32 repeat_penalty  u32 repeat_window
//          u64 seed  u32 biases, each i32 token, f32 bias
//          u32 length and bytes of Sampler::save(): the generator and recent tokens
//          u64 id of the next turn  u64 id of the current turn
//          u32 turns, by rising id, each
//            u64 id  u64 id of the parent, lower  u8 role  u8 end
//            u32 tokens of the template before and u32 behind  u32 tokens  text
//            then the tokens, u32 each
//          u32 states, the one of the current turn first, each u64 id of the turn, u64 length
//          u64 XXH3-64 of the head before it
//   states one after the other, each the bytes of Session::save() with a checksum of their own
//
// Bytes of an incomplete character at the end of a turn are not written: they are the end of its
// tokens. Checksums find damage, not malice, so everything else is checked as well.
//
// Another layout gets another version. Version 2 is that of chats that began from a prefix snapshot,
// all others are version 1; readers know both.
#ifndef MOKA_RUNTIME_CHAT_FORMAT_H_
#define MOKA_RUNTIME_CHAT_FORMAT_H_

#include <cstddef>
#include <cstdint>

namespace moka {

constexpr char kChatMagic[8] = {'M', 'O', 'K', 'A', 'C', 'H', 'A', 'T'};
constexpr uint32_t kChatVersion = 1;
constexpr uint32_t kChatVersionWithPrefix = 2;
constexpr size_t kChatChecksumBytes = 8;
constexpr uint32_t kMaxSavedStates = 4096;     // beside the current one
constexpr size_t kMaxNameBytes = 1024;         // of the model, for messages
constexpr size_t kChatFixedBytes = 8 + 4 + 8;  // magic, version, bytes of the head

// Of what comes in numbers, the fewest bytes of each: counts are held against the bytes that are
// left before anything is allocated.
constexpr size_t kChatBiasBytes = 4 + 4;
constexpr size_t kChatTurnBytes = 8 + 8 + 1 + 1 + 4 + 4 + 4 + 4;
constexpr size_t kChatTokenBytes = 4;
constexpr size_t kChatStateBytes = 8 + 8;

}  // namespace moka

#endif  // MOKA_RUNTIME_CHAT_FORMAT_H_
