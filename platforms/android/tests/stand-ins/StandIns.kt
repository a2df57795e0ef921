// As Flow.kt. The name of this file differs from all in coroutines, or its class would hide another.
package kotlinx.coroutines.channels

import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.suspendCancellableCoroutine
import kotlin.coroutines.resume

class ChannelResult(val isSuccess: Boolean)

fun <E> SendChannel<E>.trySendBlocking(element: E): ChannelResult = try {
    runBlocking { send(element) }
    ChannelResult(true)
} catch (closed: Throwable) {
    ChannelResult(false)
}

suspend fun ProducerScope<*>.awaitClose(block: () -> Unit = {}) {
    try {
        suspendCancellableCoroutine<Unit> { waiting ->
            channel.invokeOnClose { waiting.resume(Unit) }
        }
    } finally {
        block()
    }
}
