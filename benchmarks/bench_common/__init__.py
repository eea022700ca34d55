"""What the speed benchmarks share: every script asks one question and answers it in one run.

timing      cases taken in turns, so that a disturbance hits all alike; ratios by round
memory      the peak memory of a piece of work, in a process of its own
peers       other people's libraries, each in a virtual environment of its own, called as processes
machine     what it ran on: processor, versions, command
record      the JSON file and the table on the screen
picture     the ratios as a picture, where there is a Chrome
options     the command line that all have
"""
