#!/usr/bin/env python3
"""Prepare the rows that technical-10m was trained on last: technical-10m-data.py TRAIN_JSONL OUT_JSONL [--focus]

Takes conversations of one question and one answer, and
  - words the questions of tldr-pages anew (without backticks, as people type them),
  - adds small talk and honest "I don't know" answers,
  - joins the result at random into conversations of one to four turns.
With --focus, questions about everyday tools get six wordings instead of two, others one, and of every other source
40 % of the rows are kept. The same input gives the same output.
"""

import json
import random
import re
import sys

EVERYDAY = set(
    """ls tar grep find sed awk curl wget ssh scp rsync cp mv rm mkdir chmod chown ps kill top df du cat head tail sort uniq wc cut tr
xargs zip unzip gzip systemctl journalctl apt dnf pacman brew npm pip cargo python node kubectl make gcc ffmpeg vim tmux screen crontab ping ip
netstat ss dig nslookup mount lsblk fdisk useradd passwd su sudo man which alias export echo date cal history diff patch tee nohup watch env jq
sqlite3 psql mysql openssl gpg nmap tcpdump iptables ufw touch ln less more tree file stat basename dirname seq yes sleep time uname hostname
whoami id groups free uptime dmesg lsof strace go rustup terraform ansible aws az gh git docker helm rename dd hexdump base64 md5sum sha256sum
nano bc expr test type jobs fg bg disown pgrep pkill killall nice renice traceroute route ifconfig arp nc telnet ftp sftp rpm dpkg snap flatpak
yum zypper apk systemd-analyze loginctl timedatectl hostnamectl lscpu lspci lsusb parted mkfs fsck swapon blkid sync split csplit paste join
comm fold fmt nl od xxd strings iconv tac rev shuf column expand printf read set unset source exec exit cd pwd pushd popd dirs""".split()
)

# How a question about the tool {t} that does {d} may be worded.
WORDINGS = [
    "{t}: how do I {d}?",
    "{d} with {t}",
    "how to {d} in {t}",
    "what is the command to {d} with {t}?",
    "{t} {d}",
    "I want to {d}, using {t}",
    "which {t} command will {d}?",
    "show me {t} to {d}",
    "tell me how to {d} with {t}, please",
    "{d}? ({t})",
    "can I {d} with {t}?",
    "use {t} to {d}",
]

# How the questions of tldr-pages are worded in the input.
PATTERNS = [
    r"How do I (?P<d>.+) with `(?P<t>[^`]+)`\?",
    r"How can I (?P<d>.+) using `(?P<t>[^`]+)`\?",
    r"`(?P<t>[^`]+)`: (?P<d>.+)",
    r"Show me how to (?P<d>.+) with `(?P<t>[^`]+)`\.",
    r"I want to (?P<d>.+) with `(?P<t>[^`]+)`\. What do I type\?",
    r"What is the `(?P<t>[^`]+)` command to (?P<d>.+)\?",
]

# Each question of a group with each of its answers.
SMALL_TALK = [
    (
        ["hi", "hello", "hey", "hi!", "Hello.", "hey there", "good day", "hello, how are you?", "howdy", "morning"],
        ["Hello! Ask me a technical question.", "Hi! I can help with commands and code."],
    ),
    (
        ["thanks", "thank you!", "thank you very much", "ok thanks", "great", "perfect, thanks", "that works, thank you", "bye",
         "goodbye", "see you later", "thanks, bye"],
        ["You are welcome! Goodbye, and ask again any time.", "Glad to help. Goodbye!"],
    ),
    (
        ["who are you", "what are you", "what is your name", "are you human?", "are you a robot?", "who built you?",
         "introduce yourself", "tell me about yourself", "are you a person?", "are you GPT?"],
        ["I am mor, a small language model trained on technical text.",
         "I am a small technical language model that runs in this program."],
    ),
    (
        ["what can you do", "what can I ask?", "help!", "can you help", "what do you know", "how do you work?",
         "what topics do you know?", "give me some help", "how can you help"],
        ["I can answer short questions about commands, code and technical terms.",
         "Ask me a technical question, for example how to use a command."],
    ),
    (
        ["who is the king of Spain?", "what is the weather like in Berlin?", "what is my name?", "who won the election?",
         "how do I bake bread?", "sing me a song", "what is the capital of Peru?", "what time is it?", "should I buy a car?",
         "tell me a story", "qwer asdf zxcv", "blah blah blah", "lkjh gfds", "what is love?", "who wrote Hamlet?",
         "where do I live?", "how tall is my brother?", "is it raining outside?", "what did I eat yesterday?",
         "recommend a book"],
        ["I don't know that. I can only help with technical questions.", "Sorry, I only know technical things."],
    ),
]


def single_turns(path: str, focus: bool, rng: random.Random) -> list[tuple[str, str]]:
    """Questions and answers of the file, with the further wordings."""
    turns = []
    with open(path, encoding="utf-8") as rows:
        for row in map(json.loads, rows):
            question, answer = (message["content"] for message in row["messages"])
            is_tldr = row["source"] == "tldr"
            if is_tldr or not focus or rng.random() < 0.4:
                turns.append((question, answer))
            if not is_tldr:
                continue
            match = next(filter(None, (re.fullmatch(pattern, question) for pattern in PATTERNS)), None)
            if match:
                everyday = match["t"].split()[0] in EVERYDAY
                count = 2 if not focus else 6 if everyday else 1
                wordings = rng.sample(WORDINGS, count)
                turns += [(wording.format(t=match["t"], d=match["d"]), answer) for wording in wordings]
    return turns


def main() -> None:
    source, output = sys.argv[1:3]
    focus = "--focus" in sys.argv
    rng = random.Random(11 if focus else 7)
    turns = single_turns(source, focus, rng)
    talk = [(question, answer) for questions, answers in SMALL_TALK for question in questions for answer in answers]
    turns += talk * (20 if focus else 25)
    rng.shuffle(turns)
    first = 0
    with open(output, "w", encoding="utf-8") as out:
        while first < len(turns):
            count = rng.choices([1, 2, 3, 4], [0.45, 0.3, 0.15, 0.1])[0]
            messages = [
                {"role": role, "content": content}
                for turn in turns[first : first + count]
                for role, content in zip(("user", "assistant"), turn)
            ]
            out.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
            first += count


if __name__ == "__main__":
    main()
