// Text as it is written, as flows. They are cold: nothing happens before one is collected, and one at a
// time per session or chat. The model works on Dispatchers.IO and stands still while the collector has not
// taken the last piece.
//
// Cancelling the collector, or leaving early as take(5) does, ends the writing behind the piece that was
// given last, and the session or the turn is kept with what it has; when none was given yet, the call is
// undone. The collector goes on when the model has stopped, so the session is free then.
package dev.moka

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.channels.ProducerScope
import kotlinx.coroutines.channels.awaitClose
import kotlinx.coroutines.channels.trySendBlocking
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.buffer
import kotlinx.coroutines.flow.callbackFlow
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import kotlinx.coroutines.withTimeoutOrNull

/** [Session.reply] as a flow: reads the prompt, if there is one, and writes on. */
fun Session.replyFlow(
    prompt: String? = null,
    options: GenerateOptions = GenerateOptions(),
    sampling: SamplerOptions? = null
): Flow<String> = texts({ cancel() }) { listener -> reply(prompt, options, sampling, listener) }

/** [Session.generate] as a flow, with a sampler that goes on from call to call. */
fun Session.generateFlow(
    sampler: Sampler,
    options: GenerateOptions = GenerateOptions()
): Flow<String> = texts({ cancel() }) { listener -> generate(options, sampler, listener) }

/** [Chat.generate] as a flow: a turn behind the current one. */
fun Chat.generateFlow(
    options: GenerateOptions = GenerateOptions(),
    sampling: SamplerOptions? = null
): Flow<String> = texts({ cancel() }) { listener -> generate(options, sampling, listener) }

/** [Chat.regenerate] as a flow: a turn beside the current one. */
fun Chat.regenerateFlow(
    options: GenerateOptions = GenerateOptions(),
    sampling: SamplerOptions? = null
): Flow<String> = texts({ cancel() }) { listener -> regenerate(options, sampling, listener) }

private fun texts(cancelCall: () -> Unit, write: (TextListener) -> Unit): Flow<String> {
    val flow = callbackFlow<String> { give(cancelCall, write) }
    return flow.buffer(Channel.RENDEZVOUS)
}

private suspend fun ProducerScope<String>.give(
    cancelCall: () -> Unit,
    write: (TextListener) -> Unit
) {
    val state = FlowState()
    val worker = launch(Dispatchers.IO) {
        try {
            if (!state.stopped) {
                write(TextListener { text ->
                    state.talked = true
                    // Fails when nobody collects any more; until then it waits for the collector.
                    !state.stopped && trySendBlocking(text).isSuccess
                })
            }
        } catch (cancelled: MokaException.Cancelled) {
            // Asked for, below; the collector hears of its own cancellation.
            if (!state.stopped) throw cancelled
        }
        state.ended = true
        channel.close()
    }
    try {
        awaitClose()
    } finally {
        // Until then the collector was cancelled, or the call has failed.
        if (!state.ended) {
            state.stopped = true
            withContext(NonCancellable) {
                // Again and again, since the first may come before the call has begun.
                while (!worker.isCompleted) {
                    if (!state.talked) cancelCall()
                    withTimeoutOrNull(20) { worker.join() }
                }
            }
        }
    }
}

private class FlowState {
    /** Text was given. */
    @Volatile
    var talked = false

    /** Nobody wants more. */
    @Volatile
    var stopped = false

    @Volatile
    var ended = false
}
