"""LangChain's clients of an endpoint: ``python client_langchain.py URL MODEL TEXT``; prints what they get as JSON."""

import json
import sys

from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings


def main() -> None:
    """Ask and print."""
    url, model, text = sys.argv[1:]
    where = {"base_url": url, "api_key": "none", "model": model, "max_retries": 0}
    greedy = {**where, "temperature": 0, "max_tokens": 12}
    llm, chat = OpenAI(**greedy), ChatOpenAI(**greedy)
    # Otherwise it sends the ids of OpenAI's own tokenizer, which it downloads.
    embeddings = OpenAIEmbeddings(**where, check_embedding_ctx_length=False)
    turns = [("system", ""), ("human", text)]
    answer = chat.invoke(turns)
    chunks = list(chat.stream(turns, stream_usage=True))
    scored = chat.bind(logprobs=True, top_logprobs=2).invoke(turns)
    got = {
        "llm": llm.invoke(text),
        "llm_stream": "".join(llm.stream(text)),
        "llm_batch": llm.generate([text, text]).flatten()[1].generations[0][0].text,
        "chat": answer.content,
        "usage": answer.usage_metadata,
        "chat_stream": "".join(str(chunk.content) for chunk in chunks),
        "stream_usage": next(c.usage_metadata for c in chunks if c.usage_metadata),
        "history": chat.invoke([*turns, answer, ("human", text)]).content,
        "logprobs": len(scored.response_metadata["logprobs"]["content"]),
        "query": embeddings.embed_query(text),
        "documents": embeddings.embed_documents([text, text + text]),
    }
    sys.stdout.write("\n" + json.dumps(got) + "\n")


if __name__ == "__main__":
    main()
