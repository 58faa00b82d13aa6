# The commands that the guest runs. This file is its second disk (raw); /dev/vdc is the third.
n=1 sum=0
while [ $n -le 100 ]; do
  sum=$((sum + n * n))
  n=$((n + 1))
done
echo "the sum of the squares is $sum" > /dev/vdc
echo "task done"
