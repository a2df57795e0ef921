// The part of kotlinx.coroutines 1.3 to 1.9 that Flows.kt and the examples use and that the version 1.0 of
// Debian has not: as much of it as they need, with the same names, types and cancellation.
package kotlinx.coroutines.flow

import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.channels.ProducerScope
import kotlinx.coroutines.channels.consumeEach
import kotlinx.coroutines.channels.produce
import kotlinx.coroutines.coroutineScope

interface FlowCollector<in T> {
    suspend fun emit(value: T)
}

interface Flow<out T> {
    suspend fun collect(collector: FlowCollector<T>)
}

private class CallbackFlow<T>(
    private val block: suspend ProducerScope<T>.() -> Unit
) : Flow<T> {
    override suspend fun collect(collector: FlowCollector<T>) = coroutineScope {
        // Leaving this scope by an exception of the collector cancels the producer, and waits for it.
        val pieces = produce(capacity = Channel.RENDEZVOUS, block = block)
        pieces.consumeEach { piece -> collector.emit(piece) }
    }
}

fun <T> callbackFlow(block: suspend ProducerScope<T>.() -> Unit): Flow<T> = CallbackFlow(block)

fun <T> Flow<T>.buffer(capacity: Int): Flow<T> {
    require(capacity == Channel.RENDEZVOUS) { "this stand-in has no other buffer" }
    return this
}

suspend inline fun <T> Flow<T>.collect(crossinline action: suspend (T) -> Unit) =
    collect(object : FlowCollector<T> {
        override suspend fun emit(value: T) = action(value)
    })
