"""What a way of choosing agents costs, tried on made-up or recorded loads. No engine is asked.

A discrete-event simulation: seeded, so the same question has the same answer, and without a
wall clock. It chooses with the very code that the engine runs, ``engine/lua/include/strategy.lua``.

``scenario`` what is given · ``loads`` made-up scenarios · ``recording`` recorded ones ·
``simulation`` the course of events · ``choosing`` who is chosen · ``measures`` what is counted ·
``comparison`` strategies side by side over seeds.
"""
