package dev.moka

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.collect
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assert.fail
import org.junit.Test

/** Flows.kt and the example of README.md, on coroutines. */
class FlowTest {
    private fun options(tokens: Long) =
        GenerateOptions().maxTokens(tokens).stopAtEnd(false).loopTokens(0)

    private fun seeded() = SamplerOptions().temperature(0.8f).seed(3)

    private fun <T> session(body: (Session) -> T): T =
        Model.open(Testing.STORIES).use { model -> model.newSession().use(body) }

    @Test
    fun theExampleOfTheReadme() = session { session ->
        val text = StringBuilder()
        runBlocking { tell(session) { piece -> text.append(piece) } }
        val told = Testing.text(Testing.command(
            "run", Testing.STORIES, "-p", "Once upon a time", "-n", "60",
            "--temperature", "0.8", "--seed", "3"))
        assertEquals(told.trimEnd(), ("Once upon a time" + text).trimEnd())
    }

    @Test
    fun aFlowGivesWhatReplyGives() {
        val expected = mutableListOf<String>()
        session { session ->
            session.reply("There was", options(20), seeded()) { piece -> expected.add(piece) }
        }
        session { session ->
            val found = mutableListOf<String>()
            runBlocking {
                session.replyFlow("There was", options(20), seeded()).collect { found.add(it) }
            }
            assertEquals(expected, found)
            assertEquals(23, session.position())
        }
    }

    @Test
    fun cancellingTheCollectorEndsTheWriting() = session { session ->
        var pieces = 0
        runBlocking {
            val some = Channel<Unit>(Channel.UNLIMITED)
            val job = launch(Dispatchers.Default) {
                session.replyFlow("There was", options(1_000_000), seeded()).collect {
                    ++pieces
                    some.send(Unit)
                }
            }
            repeat(5) { some.receive() }
            withTimeout(60_000) { job.cancelAndJoin() }
        }
        assertTrue(pieces >= 5)
        // The session is free, and not far behind the last piece that was collected.
        val position = session.position()
        assertTrue("$position after $pieces", position in 8..(3 + pieces + 40))
        session.append(5)
        assertEquals(position + 1, session.position())
    }

    @Test
    fun cancellingWhileItReadsUndoesTheCall() = session { session ->
        session.append(1, 2)
        val prompt = "word ".repeat(100_000)
        runBlocking {
            val job = launch(Dispatchers.Default) {
                session.replyFlow(prompt, options(1_000_000)).collect { fail("it wrote") }
            }
            delay(300)
            withTimeout(60_000) { job.cancelAndJoin() }
        }
        assertEquals(2, session.position())
        session.append(5)
    }

    @Test
    fun whatTheCollectorThrowsComesOut() = session { session ->
        var pieces = 0
        try {
            runBlocking {
                session.replyFlow("There was", options(1_000_000)).collect {
                    if (++pieces == 3) throw ArithmeticException("mine")
                }
            }
            fail("nothing was thrown")
        } catch (mine: ArithmeticException) {
            assertEquals("mine", mine.message)
        }
        session.append(5) // free
    }

    @Test
    fun failuresComeOut() = session { session ->
        try {
            runBlocking { session.replyFlow(null, options(5)).collect { } }
            fail("nothing was thrown")
        } catch (refused: MokaException.FailedPrecondition) {
            assertEquals(Status.FAILED_PRECONDITION, refused.status())
        }
        session.close()
        try {
            runBlocking { session.replyFlow("a", options(5)).collect { } }
            fail("nothing was thrown")
        } catch (closed: IllegalStateException) {
            assertEquals("the session is closed", closed.message)
        }
    }

    @Test
    fun aChatKeepsTheTurnThatWasLeft() = Model.open(Testing.STORIES).use { model ->
        model.newChat(ChatOptions().sampling(seeded())).use { chat ->
            chat.append(Role.USER, "There was")
            val text = StringBuilder()
            runBlocking {
                val job = Job()
                launch(job + Dispatchers.Default) {
                    chat.generateFlow(options(1_000_000)).collect { piece ->
                        text.append(piece)
                        if (text.length > 20) job.cancel()
                    }
                }
                withTimeout(60_000) { job.join() }
            }
            // The worker has ended: the flow's scope waited for it.
            val turn = chat.path().last()
            assertEquals(Role.MODEL, turn.role)
            assertEquals(End.LISTENER, turn.end)
            assertTrue(turn.text.startsWith(text.toString()))
            runBlocking { chat.regenerateFlow(options(3)).collect { } }
            assertEquals(3, chat.turns().size)
        }
    }
}
