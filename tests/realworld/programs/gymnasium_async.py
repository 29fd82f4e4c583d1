"""gymnasium's AsyncVectorEnv: environments in processes, observations in shared memory."""
import gymnasium
from gymnasium.vector import AsyncVectorEnv

if __name__ == "__main__":
    environments = AsyncVectorEnv([lambda: gymnasium.make("CartPole-v1") for _ in range(2)])
    observations, _ = environments.reset(seed=[1, 2])
    print(observations.round(4).tolist())
    for step in range(20):
        observations, rewards, terminated, truncated, _ = environments.step([step % 2, 1 - step % 2])
    print(observations.round(4).tolist(), rewards.tolist(), terminated.tolist(), truncated.tolist())
    environments.close()
