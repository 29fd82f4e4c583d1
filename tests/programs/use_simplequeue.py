"""SimpleQueue: requests and answers."""
import multiprocessing
import sys


def serve(requests, answers):
    while True:
        request = requests.get()
        if request is None:
            break
        answers.put(request * 2)


def main():
    requests, answers = multiprocessing.SimpleQueue(), multiprocessing.SimpleQueue()
    print(requests.empty())
    p = multiprocessing.Process(target=serve, args=(requests, answers))
    p.start()
    for request in (21, "ab", [1, 2], (None,), 1.25, b"\0", 10 ** 30, "x" * 100_000):
        requests.put(request)
        answer = answers.get()
        print(str(answer)[:60], len(str(answer)))
    requests.put(None)
    p.join()
    print(p.exitcode, answers.empty())
    requests.close()
    answers.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    main()
