"""The one client for OpenAI-compatible chat servers: retries, throttle, cost cap, cache, and every failure counted.

Left out: what is asked (an engine's prompts, a judge's questions) and what a reply means. Floor 3.

    settings = ServerSettings(model="policy", base_url="http://127.0.0.1:8000/v1", identity=checkpoint_hash)
    with ChatClient(settings) as client:                     # client.py; reads the key from the environment
        asked = [ChatRequest(prompt.messages, max_tokens=512, temperature=0.8, seed=seed) for prompt, seed in work]
        for request, outcome in zip(asked, client.complete(asked), strict=True):
            if isinstance(outcome, Failure):                 # outcome.reason is a name in outcomes.FAILURES
                ...                                          # leave it out and count it; never an empty response
            else:
                choice = outcome.choices[0]                  # choice.text, choice.finish_reason ("stop" or "length")
        client.accounting()                                  # requested = ok + each failure; tokens and cost

An engine asks one choice a request, each with a seed of its own: servers ignore `n` (transformers serve), number the
seeds within it (vLLM), or both. Outcomes come in the order of the requests; a reply is committed to the cache as it
arrives, so that the same call after a kill pays for what is missing only. `identity` says which weights answer where
the model's name does not, or the cache would give the replies of an older checkpoint. Caps on cost are a command's, not
a client's, where `ledger.one_command` is open: the command line opens it around every verb.
"""
