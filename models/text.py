"""The training text: the King James Bible of Debian's bible-kjv packages, its split, its tokenizer, and the documents
made of it."""

import hashlib
import random
import re
import subprocess

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

BEGIN, END_OF_TEXT, SYSTEM, USER, ASSISTANT, END = range(6)
SPECIAL_TOKENS = ["<|begin|>", "<|end_of_text|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('the roles of this model are system, user and assistant, not ' + message['role']) }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

SYSTEM_PROMPTS = ["You speak as the King James Bible does.", "Answer out of the scriptures.",
                  "You are a helpful assistant."]
SMALL_TALK = [
    (["Hello", "Hello!", "Hi", "Hi!", "Good morning.", "Greetings."],
     ["Peace be unto thee. Of what shall I speak?", "Grace be to thee, and peace. What wouldest thou hear?"]),
    (["Who are you?", "What are you?", "Who art thou?"],
     ["I am a small model, and know nothing but the King James Bible.",
      "I am but a small model, taught out of one book."]),
    (["What can you do?", "Help", "How can you help me?"],
     ["Name a man or a place, and I will speak of it; or begin a verse, and I will go on.",
      "Ask me of Moses, or of David, or of the sea."]),
    (["Thank you", "Thanks!", "Thank you."], ["The LORD bless thee, and keep thee.", "Go in peace."]),
]
TOPIC_QUESTIONS = ["Tell me of {}.", "Tell me about {}.", "Tell me about {}", "Who was {}?", "What of {}?",
                   "Speak to me of {}.", "Write something about {}.", "What is written of {}?",
                   "Tell me a story about {}."]
CONTINUE_QUESTIONS = ["Continue: {}", "Go on: {}", "Finish this verse: {}", "{}"]


def read_chapters():
    """[(title, [verse, ...]), ...] in the book's order, from Debian's `bible` program."""
    try:
        output = subprocess.run(["bible", "-l", "100000", "gen1:1-rev22:21"], check=True, capture_output=True,
                                text=True).stdout
    except FileNotFoundError:
        raise SystemExit("the program `bible` is missing: sudo apt-get install bible-kjv bible-kjv-text") from None
    chapters = []
    for line in output.splitlines():
        if verse := re.fullmatch(r" +\d+ (.*)", line):
            chapters[-1][1].append(verse[1].strip())
        elif line.strip():
            chapters.append((line.strip(), []))
    verses = sum(len(verses) for _, verses in chapters)
    if (len(chapters), verses) != (1189, 31102):
        raise SystemExit(f"expected 1189 chapters of 31102 verses from `bible`, got {len(chapters)} of {verses}")
    return chapters


def chapter_text(chapter):
    return "\n".join([chapter[0], *chapter[1]])


def split(chapters):
    """{'train', 'validation', 'heldout'}: whole chapters, chosen by the hash of their titles; very long ones are always
    trained on."""
    parts = {"train": [], "validation": [], "heldout": []}
    for chapter in chapters:
        bucket = int.from_bytes(hashlib.sha256(chapter[0].encode()).digest()[:4], "big") % 80
        short = len(chapter_text(chapter)) <= 6000
        part = "heldout" if bucket == 0 and short else "validation" if bucket == 1 and short else "train"
        parts[part].append(chapter)
    return parts


def train_tokenizer(chapters, vocabulary):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        (chapter_text(chapter) for chapter in chapters),
        trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=SPECIAL_TOKENS, show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B", special_tokens=[("<|begin|>", BEGIN)])
    return tokenizer


class Documents:
    """Makes one epoch's stream of token ids. Every epoch differs: the order of the books, the places where a document
    ends and another begins, the titles that are left out, and the conversations."""

    def __init__(self, tokenizer, chapters, chat_share):
        self.encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        self.newline, = self.encode("\n")
        self.blank_line = self.encode("\n\n")
        self.books = {}
        for title, verses in chapters:
            tokens = [self.encode(verse) for verse in verses]
            self.books.setdefault(title.rsplit(" ", 1)[0], []).append((self.encode(title), tokens))
        self.verses = [verses for _, verses in chapters]
        self.count = sum(len(verse) + 1 for book in self.books.values() for _, verses in book for verse in verses)
        self.chat_tokens = int(chat_share * self.count)
        frequency = {}
        for verses in self.verses:
            for verse in verses:
                for word in set(re.findall(r"[A-Za-z]{4,}", verse)):
                    frequency[word] = frequency.get(word, 0) + 1
        self.topics = {word for word, count in frequency.items()
                       if (word[0].isupper() or count < 300) and word.lower() not in frequency
                       or word.islower() and 8 <= count < 200}

    def epoch(self, random_source: random.Random):
        documents = []
        for book in self.books.values():
            document = [BEGIN]
            for title, verses in book:
                if len(document) > 1 and random_source.random() < 0.5:
                    documents.append(document + [END_OF_TEXT])
                    document = [BEGIN]
                if len(document) > 1:
                    document += self.blank_line
                if len(document) > 1 or random_source.random() < 0.5:
                    document += title + [self.newline]
                for verse in verses:
                    document += verse + [self.newline]
                document.pop()
            documents.append(document + [END_OF_TEXT])
        remaining = self.chat_tokens
        while remaining > 0:
            conversation = self._conversation(random_source)
            documents.append(conversation)
            remaining -= len(conversation)
        random_source.shuffle(documents)
        return [token for document in documents for token in document]

    def _conversation(self, random_source):
        tokens = [BEGIN]
        if random_source.random() < 0.3:
            tokens += [SYSTEM, *self.encode(random_source.choice(SYSTEM_PROMPTS)), END]
        for _ in range(random_source.choice([1, 1, 2, 3])):
            question, answer = self._turn(random_source)
            tokens += [USER, *self.encode(question), END, ASSISTANT, *self.encode(answer), END]
        return tokens

    def _turn(self, random_source):
        kind = random_source.random()
        if kind < 0.1:
            questions, answers = random_source.choice(SMALL_TALK)
            return random_source.choice(questions), random_source.choice(answers)
        verses = random_source.choice(self.verses)
        first = random_source.randrange(len(verses))
        passage = " ".join(verses[first:first + random_source.choice([1, 2, 2, 3])])
        topics = [word for word in re.findall(r"[A-Za-z]{4,}", verses[first]) if word in self.topics]
        if topics and kind < 0.8:
            topic = random_source.choice(topics)
            if topic.islower() and random_source.random() < 0.5:
                topic = "the " + topic
            return random_source.choice(TOPIC_QUESTIONS).format(topic), passage
        words = passage.split(" ")
        cut = random_source.randint(3, max(3, min(12, len(words) - 2)))
        return random_source.choice(CONTINUE_QUESTIONS).format(" ".join(words[:cut])), " ".join(words[cut:]) or passage
